"""The files of a model: where they are, whether they are all there, and the fingerprint they have."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Final

import structlog
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from encoder.tiny_clip import WEIGHTS as TINY_CLIP
from pixtail.core.errors import ModelError

TINY: Final = "tiny-clip"
FINGERPRINT_BYTES: Final = 5

_SAFETENSORS: Final = ("*.safetensors", "*.safetensors.index.json")
_PICKLED: Final = ("pytorch_model*.bin", "pytorch_model*.bin.index.json")  # all that some older repositories have
_SMALL: Final = ("*.json", "*.txt")
_TOKENIZER: Final = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_HUB_ID: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def folder_of(name: str) -> Path:
    """The folder with the files of `name`: the shipped model, a folder, or a hub id (from the cache, else downloaded).

    A folder never touches the network. Raises `ModelError`.
    """
    if name == TINY:
        return _complete(TINY_CLIP, name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _complete(folder, name)
    if folder.exists() or not _HUB_ID.fullmatch(name):
        raise ModelError(
            f"the model folder {name} does not exist", "Correct model.name: a folder, a hub id or tiny-clip"
        )
    return _complete(_from_hub(name), name)


def _complete(folder: Path, name: str) -> Path:
    """`folder` if it holds a CLIP with weights and tokenizer. Raises `ModelError` that names what is missing."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"the model folder {folder} has no config.json", "Name the folder that holds the model's files"
        )
    try:
        kind = json.loads(config.read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} is not readable ({type(error).__name__})", "Copy the model again") from error
    if kind != "clip":
        raise ModelError(
            f"the model {name} is no CLIP but {kind!r}", "Name a CLIP, such as openai/clip-vit-base-patch32"
        )
    if not weights_of(folder):
        raise ModelError(f"the model folder {folder} holds no weights", "Add its model.safetensors")
    if not _tokenizer_of(folder):
        raise ModelError(f"the model folder {folder} holds no tokenizer", "Add its tokenizer.json")
    return folder


def weights_of(folder: Path) -> list[Path]:
    """The weight files that are loaded, in a fixed order: safetensors if there are any."""
    return _matching(folder, _SAFETENSORS) or _matching(folder, _PICKLED)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _tokenizer_of(folder: Path) -> list[Path]:
    groups = ([folder / name for name in names] for names in _TOKENIZER)
    return next((group for group in groups if all(path.is_file() for path in group)), [])


def fingerprint(folder: Path, *extra: bytes) -> str:
    """Ten hexadecimal digits: the content of weights and tokenizer, and whatever else shapes the vectors (`extra`).

    The same on every machine. Takes a second for 600 MB.
    """
    total = hashlib.blake2b(digest_size=FINGERPRINT_BYTES)
    for path in (*weights_of(folder), *_tokenizer_of(folder)):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "blake2b").digest())
    for part in extra:
        total.update(hashlib.blake2b(part).digest())
    return total.hexdigest()


def _from_hub(name: str) -> Path:
    try:
        cached = _snapshot(name, (*_SMALL, *_SAFETENSORS, *_PICKLED), cached=True)
        if weights_of(cached):
            return cached
    except LocalEntryNotFoundError:
        pass  # the usual first time
    structlog.get_logger().info("downloading the model", model=name)
    folder = _snapshot(name, (*_SMALL, *_SAFETENSORS), cached=False)
    return folder if weights_of(folder) else _snapshot(name, (*_SMALL, *_PICKLED), cached=False)


def _snapshot(name: str, patterns: tuple[str, ...], *, cached: bool) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=cached))
    except GatedRepoError as error:
        raise ModelError(
            f"the model {name} needs a licence to be accepted", "Accept it on the hub, set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"the hub has no model {name}", "Correct model.name: a folder, a hub id or tiny-clip"
        ) from error
    except LocalEntryNotFoundError as error:
        if cached:
            raise
        raise _no_hub(name) from error
    except (HfHubHTTPError, OSError) as error:
        raise _no_hub(name) from error


def _no_hub(name: str) -> ModelError:
    return ModelError(
        f"the model {name} is neither a folder nor in the cache, and the hub cannot be reached",
        "Give model.name a folder with the model's files, or connect this machine once",
    )
