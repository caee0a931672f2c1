"""The seven backgrounds, one function each, drawn between sky, horizon and ground."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import ImageDraw

RGB = tuple[int, int, int]

ROAD_BELOW_HORIZON: Final = 0.12
"""How far below the horizon a road begins, as a share of the picture's height."""


@dataclass(frozen=True, slots=True)
class Stage:
    """An empty picture: where to draw, how large it is (pixels), and where the sky ends."""

    pen: ImageDraw.ImageDraw
    width: int
    height: int
    horizon: float
    rng: np.random.Generator

    @property
    def unit(self) -> float:
        """One pixel of a picture 240 pixels high, so that large pictures show the same things."""
        return self.height / 240

    def across(self, low: float = 0.0, high: float = 1.0) -> float:
        return self.rng.uniform(low, high) * self.width

    def upward(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high) * self.height

    def shade(self, colour: RGB, spread: int = 14) -> RGB:
        """`colour`, each channel moved by up to `spread`."""
        red, green, blue = (max(0, min(255, c + int(self.rng.integers(-spread, spread + 1)))) for c in colour)
        return red, green, blue

    def gradient(self, top: float, bottom: float, first: RGB, last: RGB) -> None:
        for y in range(int(top), int(bottom)):
            share = (y - top) / max(1.0, bottom - top)
            red, green, blue = (int(a * (1 - share) + b * share) for a, b in zip(first, last, strict=True))
            self.pen.line([(0, y), (self.width, y)], fill=(red, green, blue))

    def sky_and_ground(self, zenith: RGB, low_sky: RGB, ground: RGB) -> None:
        self.gradient(0, self.horizon, self.shade(zenith), self.shade(low_sky))
        red, green, blue = self.shade(ground)
        self.gradient(
            self.horizon, self.height, (red, green, blue), (int(red * 0.85), int(green * 0.85), int(blue * 0.85))
        )

    def disc(self, colour: RGB) -> None:
        """The sun or the moon."""
        x, y, r = self.across(0.1, 0.9), self.upward(0.08, 0.22), self.across(0.03, 0.05)
        self.pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    def road(self, asphalt: RGB) -> None:
        top = self.horizon + ROAD_BELOW_HORIZON * self.height
        self.pen.rectangle([0, top, self.width, self.height], fill=self.shade(asphalt, 6))
        for dash in range(6):
            x = dash * self.width / 6
            self.pen.rectangle([x, self.height * 0.93, x + self.width / 12, self.height * 0.945], fill=(225, 220, 190))

    def skyline(self, wall: RGB, window: RGB, lit_share: float) -> None:
        x = -self.rng.uniform(0, 30) * self.unit
        while x < self.width:
            width = self.across(1 / 14, 1 / 6)
            top = self.horizon * (1 - self.rng.uniform(0.25, 0.85))
            self.pen.rectangle([x, top, x + width, self.horizon], fill=self.shade(wall, 18))
            self.windows(x, top, width, window, lit_share)
            x += width + self.rng.uniform(0, 8) * self.unit

    def windows(self, left: float, top: float, width: float, colour: RGB, lit_share: float) -> None:
        unit = self.unit
        for y in np.arange(top + 6 * unit, self.horizon - 6 * unit, 12 * unit).tolist():
            for x in np.arange(left + 5 * unit, left + width - 6 * unit, 11 * unit).tolist():
                if self.rng.random() < lit_share:
                    self.pen.rectangle([x, y, x + 4 * unit, y + 6 * unit], fill=colour)

    def peaks(self, rock: RGB) -> None:
        for _ in range(4):
            left, width, height = self.across(-0.2, 0.9), self.across(0.35, 0.7), self.upward(0.2, 0.45)
            top = self.horizon - height
            self.pen.polygon(
                [(left, self.horizon), (left + width / 2, top), (left + width, self.horizon)], fill=self.shade(rock)
            )
            snow_line = self.horizon - height * 0.76
            self.pen.polygon(
                [(left + width * 0.38, snow_line), (left + width / 2, top), (left + width * 0.62, snow_line)],
                fill=(246, 248, 252),
            )


def _city(stage: Stage) -> None:
    stage.sky_and_ground((150, 180, 210), (205, 215, 222), (105, 105, 108))
    stage.skyline(wall=(125, 118, 122), window=(190, 205, 215), lit_share=0.6)
    stage.road((70, 70, 74))


def _night(stage: Stage) -> None:
    stage.sky_and_ground((6, 8, 28), (30, 32, 66), (40, 40, 50))
    stage.skyline(wall=(22, 24, 44), window=(250, 225, 130), lit_share=0.35)
    side = max(0.0, stage.unit - 1)  # Pillow's rectangles include both corners
    for _ in range(30):
        x, y = stage.across(), stage.rng.uniform(0, 0.5) * stage.horizon
        stage.pen.rectangle([x, y, x + side, y + side], fill=(240, 240, 255))
    stage.disc((240, 240, 215))
    stage.road((34, 34, 40))


def _desert(stage: Stage) -> None:
    stage.sky_and_ground((120, 180, 230), (235, 215, 180), (214, 178, 112))
    for _ in range(3):
        left, width, height = stage.across(-0.2, 1), stage.across(0.4, 0.8), stage.upward(0.06, 0.18)
        dune = [(left, stage.horizon), (left + width * 0.45, stage.horizon - height), (left + width, stage.horizon)]
        stage.pen.polygon(dune, fill=stage.shade((222, 186, 118)))
    stage.disc((255, 240, 170))


def _forest(stage: Stage) -> None:
    stage.sky_and_ground((140, 190, 215), (200, 225, 215), (82, 100, 58))
    foot, trunk = stage.horizon, 3 * stage.unit
    for _ in range(14):
        x, height, half = stage.across(), stage.upward(0.25, 0.55), stage.across(0.05, 0.1)
        stage.pen.rectangle([x - trunk, foot - height * 0.25, x + trunk, foot], fill=(78, 54, 32))
        crown = [(x - half, foot - height * 0.15), (x, foot - height), (x + half, foot - height * 0.15)]
        stage.pen.polygon(crown, fill=stage.shade((34, 84, 40)))
    stage.road((70, 70, 74))


def _beach(stage: Stage) -> None:
    stage.sky_and_ground((90, 170, 235), (200, 230, 245), (232, 212, 160))
    sea_top = stage.horizon - 0.14 * stage.height
    stage.pen.rectangle([0, sea_top, stage.width, stage.horizon], fill=stage.shade((35, 120, 175)))
    for _ in range(6):
        x, y = stage.across(0, 0.9), stage.horizon - stage.upward(0, 0.13)
        stage.pen.line([(x, y), (x + stage.width * 0.1, y)], fill=(225, 240, 248), width=round(2 * stage.unit))
    _palm(stage, stage.width * (0.08 if stage.rng.random() < 0.5 else 0.92))


def _palm(stage: Stage, foot: float) -> None:
    unit = stage.unit
    x, y = foot + 6 * unit, stage.horizon - 0.33 * stage.height
    stage.pen.line([(foot, stage.horizon + 8 * unit), (x, y)], fill=(110, 78, 42), width=round(6 * unit))
    for leaf in range(7):
        angle = leaf * math.tau / 7
        tip = (x + 0.09 * stage.width * math.cos(angle), y + 0.05 * stage.height * math.sin(angle))
        stage.pen.line([(x, y), tip], fill=(36, 110, 46), width=round(5 * unit))


def _snow(stage: Stage) -> None:
    stage.sky_and_ground((180, 195, 210), (225, 232, 240), (228, 234, 242))
    stage.peaks((196, 206, 220))
    flake = 3 * stage.unit
    for _ in range(60):
        x, y = stage.across(), stage.upward(0, 1)
        stage.pen.ellipse([x, y, x + flake, y + flake], fill=(255, 255, 255))


def _mountain(stage: Stage) -> None:
    stage.sky_and_ground((110, 165, 225), (210, 225, 238), (122, 118, 104))
    stage.peaks((112, 116, 128))
    stage.road((70, 70, 74))


SCENERY: Final[Mapping[str, Callable[[Stage], None]]] = {
    "city": _city,
    "desert": _desert,
    "forest": _forest,
    "beach": _beach,
    "snow": _snow,
    "mountain": _mountain,
    "night": _night,
}
"""A painter for every key of `captions.SCENES`."""
