"""How well an embedder searches the tiny CLIP's world: text → picture recall on pictures that no training saw.

It knows the embedder only as two functions, so that a test can drive the product's own one through it.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.tiny_clip.captions import SUBJECTS, Language, Subject, colour_kind_captions
from encoder.tiny_clip.drawing import draw

Vectors = NDArray[np.floating[Any]]
EmbedImages = Callable[[list[Image.Image]], Vectors]
"""RGB pictures, of mixed sizes, to vectors [n, dim]; any length of vector will do."""
EmbedTexts = Callable[[list[str]], Vectors]

HELD_OUT_STREAM: Final = 2
"""The first word of every held-out seed; `training` draws from stream 1."""
_BATCH: Final = 64


@dataclass(frozen=True, slots=True)
class Gallery:
    """The held-out pictures' subjects and unit vectors, row by row."""

    subjects: tuple[Subject, ...]
    vectors: Vectors


def held_out_picture(number: int) -> Image.Image:
    """Picture `number` of subject `number % 560`, as it comes back from a JPEG of quality 85; every third is 640 × 480.

    Product pictures arrive as JPEGs, so what the compression does to colours is part of what is measured.
    """
    size = (640, 480) if number % 3 == 0 else (320, 240)
    picture = draw(*SUBJECTS[number % len(SUBJECTS)], np.random.default_rng((HELD_OUT_STREAM, number)), size)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    with Image.open(file) as compressed:
        return compressed.convert("RGB")


def build_gallery(embed_images: EmbedImages, count: int = len(SUBJECTS)) -> Gallery:
    """Draws and embeds `count` held-out pictures, by default every subject once: some 10 s on two cores."""
    numbers = range(count)
    batches = [
        embed_images([held_out_picture(number) for number in numbers[first : first + _BATCH]])
        for first in range(0, count, _BATCH)
    ]
    return Gallery(tuple(SUBJECTS[number % len(SUBJECTS)] for number in numbers), _unit(np.concatenate(batches)))


def recall_at_1(gallery: Gallery, embed_texts: EmbedTexts, language: Language) -> float:
    """The share of colour-and-kind captions whose nearest picture they are true of, 0…1."""
    captions = list(colour_kind_captions(language))
    batches = [
        embed_texts([caption.text for caption in captions[first : first + _BATCH]])
        for first in range(0, len(captions), _BATCH)
    ]
    nearest = (_unit(np.concatenate(batches)) @ gallery.vectors.T).argmax(axis=1).tolist()
    hits = [caption.is_true_of(gallery.subjects[picture]) for caption, picture in zip(captions, nearest, strict=True)]
    return sum(hits) / len(hits)


def _unit(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths
