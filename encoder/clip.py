"""CLIP by transformers: pictures and texts to unit vectors of one space."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging as transformers_logging

from encoder import decode as decoding
from encoder.model_files import fingerprint, folder_of
from encoder.preprocessing import Preprocessing
from pixtail.core import settings
from pixtail.core.errors import ModelError, PictureError, Reason
from pixtail.core.ports import Picture

if TYPE_CHECKING:
    from pixtail.core.points import Vectors

T = TypeVar("T")

_LOAD_ERRORS = (
    OSError,
    SafetensorError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A forward pass of so few parameters takes a core milliseconds. Shared out, it waits for the slower core, which other threads keep busy:
# for 100 ms and more while pictures are decoded (benchmarks/lanes.py).
FOR_ONE_CORE = 4_000_000
# Raised when the same files come to give other vectors: a change of the picture policy, for instance.
_POLICY = b"1"


def load(model: settings.Model, pictures: settings.Pictures) -> ClipEmbedder:
    """The embedder that the settings name, ready to work. Raises `ModelError` in one line.

    A hub id, a folder and the shipped model take the very same way.
    """
    folder = folder_of(model.name)
    device = _device(model.device)
    clip = _weights(folder, _dtype(model.dtype, device), device)
    preprocessing = _preprocessing(folder, clip.config.vision_config.image_size)
    return ClipEmbedder(
        name=model.name,
        fingerprint=fingerprint(folder, preprocessing.canonical(), model.dtype.encode(), _POLICY),
        clip=clip,
        tokenizer=_tokenizer(folder),
        preprocessing=preprocessing,
        max_pixels=pictures.max_pixels,
        batch=model.batch,
        for_one_core=sum(weights.numel() for weights in clip.parameters()) <= FOR_ONE_CORE,
    )


class ClipEmbedder:
    """An `Embedder` over transformers' `CLIPModel`. Thread-safe. Build it with `load`."""

    def __init__(
        self,
        *,
        name: str,
        fingerprint: str,
        clip: Any,
        tokenizer: Any,
        preprocessing: Preprocessing,
        max_pixels: int,
        batch: int,
        for_one_core: bool,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dimension: int = clip.config.projection_dim
        self.preprocessing = preprocessing
        self._clip = clip
        self._tokenizer = tokenizer
        self._tokenizer_lock = threading.Lock()
        self._max_pixels = max_pixels
        self._batch = batch
        self._for_one_core = for_one_core

    def decode(self, data: bytes) -> Picture:
        """As `Embedder.decode`."""
        return decoding.decode(data, self.preprocessing, self._max_pixels)

    def encode(self, pictures: Sequence[Picture]) -> Vectors:
        """As `Embedder.encode`. Raises `PictureError` (`corrupt`) if the model makes no direction of one of the pictures."""
        parts = [self._encode(part) for part in _batches(pictures, self._batch)]
        return np.concatenate(parts) if parts else self._none()

    def _encode(self, pictures: Sequence[Picture]) -> Vectors:
        raw = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
        with self._inference():
            values = normalised(raw.to(self._clip.device), self.preprocessing).to(self._clip.dtype)
            features = self._clip.get_image_features(pixel_values=values).pooler_output
        try:
            return _unit(features)
        except ValueError as error:
            raise PictureError(Reason.CORRUPT, "the model makes no finite vector of the picture") from error

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """As `Embedder.encode_texts`."""
        parts = [self._encode_texts(part) for part in _batches(texts, self._batch)]
        return np.concatenate(parts) if parts else self._none()

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        with self._tokenizer_lock:  # its padding and truncation are state, and "already borrowed" by another thread
            tokens = self._tokenizer(
                list(texts),
                padding=True,
                truncation=True,
                max_length=self._clip.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
        with self._inference():
            features = self._clip.get_text_features(**tokens.to(self._clip.device)).pooler_output
        try:
            return _unit(features)
        except ValueError as error:
            raise ModelError("the model makes no finite vector of a text", "Set model.dtype to float32") from error

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """torch has a number of threads for each thread that calls it."""
        usual = torch.get_num_threads()
        try:
            if self._for_one_core:
                torch.set_num_threads(1)
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(usual)

    def _none(self) -> Vectors:
        return np.empty((0, self.dimension), np.float32)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def normalised(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Shape (n, height, width, 3) uint8 to (n, 3, height, width) float32 with the model's mean and deviation."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device)
    std = torch.tensor(preprocessing.std, device=pixels.device)
    scaled = pixels.to(torch.float32) * preprocessing.rescale
    return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


def _unit(features: torch.Tensor) -> Vectors:
    """Rows of unit length. Raises `ValueError` for what has no direction."""
    vectors = features.float().cpu().numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("no finite vector")
    return np.asarray(vectors / lengths, np.float32)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        raise ModelError(f"the device {name} cannot be used here", "Set model.device to auto or cpu") from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 where the hardware is made for it."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


def _weights(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    transformers_logging.disable_progress_bar()
    try:
        clip, found = CLIPModel.from_pretrained(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"the weights in {folder} cannot be loaded ({type(error).__name__}: {_first_line(error)})",
            "Copy the model again",
        ) from error
    if missing := sorted(found["missing_keys"]):  # transformers fills them with noise and goes on
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} tensors, {missing[0]} for one", "Copy the model again"
        )
    return clip.to(device).eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160]


def _tokenizer(folder: Path) -> Any:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelError(f"the tokenizer in {folder} cannot be loaded", "Copy the model again") from error


def _preprocessing(folder: Path, image_size: int) -> Preprocessing:
    """By the PIL-based processor, named explicitly: torchvision, where it happens to be installed, would change the pixels."""
    try:
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"the model folder {folder} has no usable preprocessor_config.json", "Add it") from error
    size = processor.size
    crop = processor.crop_size if processor.do_center_crop else size
    squeezed = size.shortest_edge is None and (size.height, size.width) != (crop.height, crop.width)
    if squeezed or not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        raise ModelError(
            f"{folder}/preprocessor_config.json asks for steps that CLIP does not have", "Compare it with openai's"
        )
    if (crop.height, crop.width) != (image_size, image_size):
        raise ModelError(
            f"{folder} prepares pictures of {crop.width} × {crop.height} for a model of {image_size} × {image_size}",
            "Correct its preprocessor_config.json",
        )
    return Preprocessing(
        height=crop.height,
        width=crop.width,
        shortest_edge=size.shortest_edge,
        resample=int(processor.resample),
        rescale=processor.rescale_factor,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )
