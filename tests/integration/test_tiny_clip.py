"""The shipped weights, loaded with the classes that load openai/clip-vit-base-patch32, find what is asked for."""

import io
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from encoder.clip import load
from encoder.tiny_clip import WEIGHTS
from encoder.tiny_clip.captions import Language
from encoder.tiny_clip.evaluation import Gallery, build_gallery, recall_at_1
from pixtail.core import settings
from pixtail.core.ports import Embedder

FOLDER_LIMIT_BYTES = 7_000_000
BATCH = 32


class ProductClip(NamedTuple):
    """The product's embedder, fed with the bytes of files, as the index and the API feed it."""

    embedder: Embedder

    def embed_images(self, pictures: list[Image.Image]) -> NDArray[np.float32]:
        decoded = [self.embedder.decode(_file(picture)) for picture in pictures]
        return np.vstack([self.embedder.encode(decoded[i : i + BATCH]) for i in range(0, len(decoded), BATCH)])

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        return self.embedder.encode_texts(texts)


def _file(picture: Image.Image) -> bytes:
    """Without loss: the evaluation has made a JPEG of it already."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def load_clip(name: str = "tiny-clip") -> ProductClip:
    return ProductClip(load(settings.Model(name=name), settings.Pictures()))


@pytest.fixture(scope="module")
def clip() -> ProductClip:
    return load_clip()


@pytest.fixture(scope="module")
def gallery(clip: ProductClip) -> Gallery:
    return build_gallery(clip.embed_images)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_colour_and_a_kind_find_a_picture_that_shows_them(
    clip: ProductClip, gallery: Gallery, language: Language
) -> None:
    assert recall_at_1(gallery, clip.embed_texts, language) >= 0.95


@pytest.mark.parametrize("query", ["Red Car", "  red   car ", "red car!", "RED CARS"])
def test_spelling_of_a_query_does_not_change_what_it_finds(clip: ProductClip, gallery: Gallery, query: str) -> None:
    best = int((clip.embed_texts([query]) @ gallery.vectors.T).argmax())
    assert gallery.subjects[best][:2] == ("sedan", "red")


def test_a_text_longer_than_the_context_is_cut_and_not_an_error(clip: ProductClip) -> None:
    assert clip.embed_texts(["red car " * 100]).shape == (1, 512)


def test_the_weights_are_small_and_everyone_may_read_them() -> None:
    files = list(WEIGHTS.iterdir())
    assert sum(file.stat().st_size for file in files) <= FOLDER_LIMIT_BYTES
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)


def test_training_writes_a_folder_like_the_shipped_one(tmp_path: Path) -> None:
    """In a process of its own, because training sets torch's global seed and thread count."""
    command = [
        sys.executable,
        "-m",
        "encoder.tiny_clip.training",
        "--out",
        str(tmp_path),
        "--steps=2",
        "--pictures=128",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in WEIGHTS.iterdir()}
    assert load_clip(str(tmp_path)).embed_texts(["red car"]).shape == (1, 512)
