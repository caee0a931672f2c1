"""Draws a vehicle of one kind and colour in one scene: the tiny CLIP's whole world, and the demo's sample pictures.

The shipped weights know exactly these drawings. Whoever changes a line here or in `scenery` and `vehicles` trains again
(`make tiny-clip`). Imports neither torch nor transformers.
"""

import colorsys
from collections.abc import Mapping
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from encoder.tiny_clip.scenery import ROAD_BELOW_HORIZON, SCENERY, Stage
from encoder.tiny_clip.vehicles import BOX, GROUND, vehicle

RGB = tuple[int, int, int]

PAINTS: Final[Mapping[str, RGB]] = {
    "red": (200, 25, 25),
    "orange": (240, 125, 15),
    "yellow": (240, 215, 25),
    "green": (30, 140, 45),
    "blue": (30, 65, 200),
    "purple": (125, 40, 160),
    "white": (242, 242, 242),
    "black": (25, 25, 28),
    "silver": (160, 164, 170),
    "brown": (115, 70, 35),
}
"""A paint for every key of `captions.COLOURS`."""


def draw(
    kind: str, colour: str, scene: str, rng: np.random.Generator, size: tuple[int, int] = (320, 240)
) -> Image.Image:
    """An RGB picture of (width, height) `size` pixels; the same state of `rng` draws the same pixels.

    Raises:
        KeyError: `kind`, `colour` or `scene` is not in the vocabulary of `captions`.
    """
    width, height = size
    picture = Image.new("RGB", size)
    horizon = height * rng.uniform(0.5, 0.66)
    SCENERY[scene](Stage(ImageDraw.Draw(picture), width, height, horizon, rng))
    layer = vehicle(kind, _paint(PAINTS[colour], rng), rng)
    _park(picture, layer, horizon, rng)
    return _photograph(picture, rng, brightest=1.05 if scene == "night" else 1.10)


def _paint(rgb: RGB, rng: np.random.Generator) -> RGB:
    """No two cars of one colour are quite alike."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    hue = (hue + rng.uniform(-0.012, 0.012)) % 1
    saturation = min(1.0, saturation * rng.uniform(0.85, 1.1))
    value = min(1.0, value * rng.uniform(0.87, 1.08))
    red, green, blue = (int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _park(picture: Image.Image, layer: Image.Image, horizon: float, rng: np.random.Generator) -> None:
    """Puts the vehicle, with its shadow, on the ground near the middle, facing either way."""
    scale = rng.uniform(0.52, 0.72) * picture.height * 1.3 / BOX[0]
    width, height = int(BOX[0] * scale), int(BOX[1] * scale)
    layer = layer.resize((width, height), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left = int(picture.width * (0.5 + rng.uniform(-0.07, 0.07)) - width / 2)
    nearest_to_road = horizon + ROAD_BELOW_HORIZON * picture.height
    wheels = min(picture.height - 2, max(nearest_to_road, picture.height * rng.uniform(0.76, 0.93)))
    shadow = _shadow(width, scale)
    picture.paste(shadow, (left, int(wheels - 8 * scale)), shadow)
    picture.paste(layer, (left, int(wheels - GROUND * scale)), layer)


def _shadow(width: int, scale: float) -> Image.Image:
    shadow = Image.new("RGBA", (width, max(4, int(18 * scale))))
    ImageDraw.Draw(shadow).ellipse([width * 0.04, 0, width * 0.96, 18 * scale], fill=(0, 0, 0, 110))
    return shadow


def _photograph(picture: Image.Image, rng: np.random.Generator, brightest: float) -> Image.Image:
    """Exposure and sensor noise."""
    pixels = np.asarray(picture, dtype=np.float32)
    grain = rng.standard_normal((picture.height, picture.width, 1), dtype=np.float32) * np.float32(rng.uniform(0, 5))
    exposed = pixels * np.float32(rng.uniform(0.86, brightest)) + grain
    return Image.fromarray(np.clip(exposed, 0, 255).astype(np.uint8))
