"""The tiny CLIP's world: what is drawn, and what is said about it."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from encoder.tiny_clip.captions import (
    COLOURS,
    KINDS,
    SCENES,
    SUBJECTS,
    Caption,
    Language,
    Subject,
    colour_kind_captions,
    random_caption,
)
from encoder.tiny_clip.drawing import PAINTS, draw
from encoder.tiny_clip.evaluation import held_out_picture
from encoder.tiny_clip.scenery import SCENERY
from encoder.tiny_clip.vehicles import VEHICLES

RED_BUS = Subject("bus", "red", "beach")


def _words_said(caption: Caption, language: Language) -> list[bool]:
    named = [(KINDS, caption.kind), (COLOURS, caption.colour), (SCENES, caption.scene)]
    return [
        any(word in caption.text for word in getattr(vocabulary[key], language)) for vocabulary, key in named if key
    ]


def test_every_word_of_the_vocabulary_has_its_painter() -> None:
    assert set(VEHICLES) == set(KINDS)
    assert set(PAINTS) == set(COLOURS)
    assert set(SCENERY) == set(SCENES)
    assert len(SUBJECTS) == len(set(SUBJECTS)) == len(KINDS) * len(COLOURS) * len(SCENES)


@pytest.mark.parametrize(("kind", "scene"), list(itertools.product(KINDS, SCENES)))
def test_every_kind_draws_in_every_scene(kind: str, scene: str) -> None:
    picture = draw(kind, "blue", scene, np.random.default_rng(3))
    assert (picture.mode, picture.size) == ("RGB", (320, 240))


@pytest.mark.parametrize("size", [(96, 96), (320, 240), (640, 480), (480, 640)])
def test_a_picture_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    assert draw("van", "green", "night", np.random.default_rng(0), size).size == size


def test_one_seed_draws_the_same_pixels_and_another_seed_does_not() -> None:
    first, again, other = (draw(*RED_BUS, np.random.default_rng(seed)).tobytes() for seed in (7, 7, 8))
    assert first == again
    assert first != other


@pytest.mark.parametrize("colour", list(COLOURS))
def test_the_body_is_painted_in_the_colour_that_was_asked_for(colour: str) -> None:
    """The cargo box of a truck is so large that the middle of the picture shows nothing but paint."""
    pixels = np.asarray(draw("truck", colour, "desert", np.random.default_rng(1)), dtype=np.float64)
    body = np.median(pixels[105:145, 130:190].reshape(-1, 3), axis=0)
    distances = {name: float(np.linalg.norm(body - paint)) for name, paint in PAINTS.items()}
    assert min(distances, key=distances.__getitem__) == colour


@pytest.mark.parametrize("unknown", [("tank", "red", "city"), ("bus", "pink", "city"), ("bus", "red", "moon")])
def test_an_unknown_word_is_a_key_error(unknown: tuple[str, str, str]) -> None:
    with pytest.raises(KeyError):
        draw(*unknown, np.random.default_rng(0))


def test_drawing_needs_neither_torch_nor_transformers() -> None:
    """The demo draws its sample pictures where only Pillow and NumPy are installed."""
    program = (
        "import sys, encoder.tiny_clip.drawing; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_random_caption_names_what_it_claims_to_name(language: Language) -> None:
    rng = np.random.default_rng(0)
    for subject in SUBJECTS:
        caption = random_caption(subject, rng, language)
        assert caption.is_true_of(subject)
        assert _words_said(caption, language), caption
        assert all(_words_said(caption, language)), caption


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_queries_name_every_colour_and_kind_but_no_scene(language: Language) -> None:
    captions = list(colour_kind_captions(language))
    assert {(c.kind, c.colour) for c in captions} == set(itertools.product(KINDS, COLOURS))
    assert all(c.scene is None and all(_words_said(c, language)) for c in captions)


def test_without_a_language_captions_come_in_both() -> None:
    rng = np.random.default_rng(0)
    chinese = sum(not random_caption(RED_BUS, rng).text.isascii() for _ in range(1000))
    assert 250 < chinese < 450


def test_an_article_suits_the_word_behind_it() -> None:
    texts = {caption.text for caption in colour_kind_captions("en")}
    assert {"an orange bus", "a red bus", "an off-road suv painted red", "a photo of an orange sedan"} <= texts
    assert not any(" a orange" in text or text.startswith("a orange") for text in texts)


def test_a_caption_is_true_of_what_it_is_silent_about() -> None:
    assert Caption("a bus", kind="bus").is_true_of(RED_BUS)
    assert Caption("something red", colour="red").is_true_of(RED_BUS)
    assert not Caption("a red van", kind="van", colour="red").is_true_of(RED_BUS)
    assert not Caption("a bus at night", kind="bus", scene="night").is_true_of(RED_BUS)


def test_held_out_pictures_come_back_from_a_jpeg_in_two_sizes() -> None:
    pictures = [held_out_picture(number) for number in range(3)]
    assert all(isinstance(picture, Image.Image) and picture.mode == "RGB" for picture in pictures)
    assert [picture.size for picture in pictures] == [(640, 480), (320, 240), (320, 240)]
