"""From an RGB picture to the pixels a CLIP takes: exactly those of transformers' PIL-based `CLIPImageProcessor`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From this ratio of the sides on, only the part that is kept is scaled: a thin strip would swell to gigabytes. Below it the whole is scaled
# and then cropped, as the processor does: Pillow picks the order of its two passes by the sizes, and between them it rounds and clips.
STRIP_RATIO = 32


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a model's `preprocessor_config.json` says. `shortest_edge` None: the picture is squeezed to `height × width` at once."""

    height: int
    width: int
    shortest_edge: int | None
    resample: int
    rescale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def canonical(self) -> bytes:
        """The same bytes on every machine, for the fingerprint."""
        return json.dumps(asdict(self), sort_keys=True).encode()


def pixels(image: Image.Image, wanted: Preprocessing) -> NDArray[np.uint8]:
    """Shape (height, width, 3), uint8: `image` (mode RGB) scaled so that its shorter side fits, and cropped around its centre."""
    resample = Image.Resampling(wanted.resample)
    width, height = _scaled_size(image, wanted)
    if max(width, height) > STRIP_RATIO * min(width, height):
        return _strip(image, (width, height), wanted, resample)
    return _centre(np.asarray(image.resize((width, height), resample)), wanted)


def _scaled_size(image: Image.Image, wanted: Preprocessing) -> tuple[int, int]:
    """As transformers.image_transforms.get_resize_output_image_size rounds it: down."""
    if wanted.shortest_edge is None:
        return wanted.width, wanted.height
    short, long = sorted(image.size)
    scaled = int(wanted.shortest_edge * long / short)
    return (wanted.shortest_edge, scaled) if image.width <= image.height else (scaled, wanted.shortest_edge)


def _centre(scaled: NDArray[np.uint8], wanted: Preprocessing) -> NDArray[np.uint8]:
    """The crop, with black where the picture is smaller than it: transformers.image_transforms.center_crop."""
    height, width = scaled.shape[:2]
    top, left = (height - wanted.height) // 2, (width - wanted.width) // 2
    if top >= 0 and left >= 0:
        return np.ascontiguousarray(scaled[top : top + wanted.height, left : left + wanted.width])
    padded = np.zeros((max(wanted.height, height), max(wanted.width, width), 3), np.uint8)
    top_pad, left_pad = ceil((padded.shape[0] - height) / 2), ceil((padded.shape[1] - width) / 2)
    padded[top_pad : top_pad + height, left_pad : left_pad + width] = scaled
    top, left = top + top_pad, left + left_pad
    return np.ascontiguousarray(padded[top : top + wanted.height, left : left + wanted.width])


def _strip(
    image: Image.Image, scaled: tuple[int, int], wanted: Preprocessing, resample: Image.Resampling
) -> NDArray[np.uint8]:
    width, height = min(scaled[0], wanted.width), min(scaled[1], wanted.height)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    x, y = image.width / scaled[0], image.height / scaled[1]
    box = (left * x, top * y, (left + width) * x, (top + height) * y)
    return _centre(np.asarray(image.resize((width, height), resample, box=box)), wanted)
