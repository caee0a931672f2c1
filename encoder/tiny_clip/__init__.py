"""A very small CLIP that knows eight kinds of vehicle, for the demo and the tests of a machine without a model hub.

It was trained on nothing but the pictures that `drawing` draws and the captions that `captions` writes, in English and
Chinese, and it loads like any CLIP folder. It answers "a red pickup" truly and knows nothing else: words outside its
vocabulary still return neighbours. `make tiny-clip` trains it again; `evaluation` says how well it searches.
"""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""The shipped model, laid out like a downloaded CLIP. Saved in bfloat16: load it with `dtype=torch.float32`."""
