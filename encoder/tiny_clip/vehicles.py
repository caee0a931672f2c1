"""The eight kinds of vehicle, one function each, facing right in a box of 400 × 240 with the ground at y = 220."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
RGBA = tuple[int, int, int, int]
Point = tuple[float, float]

BOX: Final = (400, 240)
GROUND: Final = 220

_OUTLINE: Final[RGBA] = (18, 18, 20, 255)
_RUBBER: Final[RGBA] = (22, 22, 24, 255)
_BUMPER: Final[RGBA] = (48, 48, 50, 255)
_HUB: Final[RGBA] = (176, 178, 184, 255)
_HEADLIGHT: Final[RGBA] = (255, 245, 190, 255)
_GLASS: Final[tuple[RGBA, RGBA]] = ((70, 95, 118, 255), (150, 185, 205, 255))


class _Pen:
    """Draws one vehicle: knows its paint and its glass."""

    def __init__(self, layer: Image.Image, paint: RGB, rng: np.random.Generator) -> None:
        self.draw = ImageDraw.Draw(layer)
        self.rng = rng
        self.paint: RGBA = (*paint, 255)
        self.seam: RGBA = (int(paint[0] * 0.62), int(paint[1] * 0.62), int(paint[2] * 0.62), 255)
        self.glass = _GLASS[int(rng.integers(len(_GLASS)))]

    def panel(self, *points: Point, fill: RGBA | None = None) -> None:
        """An outlined surface, painted unless `fill` says otherwise."""
        self.draw.polygon(points, fill=fill or self.paint)
        self.draw.line([*points, points[0]], fill=_OUTLINE, width=3)

    def window(self, *points: Point) -> None:
        self.panel(*points, fill=self.glass)

    def wheel(self, x: float, radius: float) -> None:
        y = GROUND - radius
        self.disc(x, y, radius, _RUBBER)
        self.disc(x, y, radius / 2, _HUB)

    def disc(self, x: float, y: float, radius: float, fill: RGBA) -> None:
        self.draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)

    def bar(self, start: Point, end: Point, fill: RGBA, width: int) -> None:
        self.draw.line([start, end], fill=fill, width=width)

    def block(self, left: float, top: float, right: float, bottom: float, fill: RGBA) -> None:
        self.draw.rectangle([left, top, right, bottom], fill=fill)


def vehicle(kind: str, paint: RGB, rng: np.random.Generator) -> Image.Image:
    """A `kind` (a key of `captions.KINDS`) in `paint` on a transparent layer of size `BOX`."""
    layer = Image.new("RGBA", BOX)
    VEHICLES[kind](_Pen(layer, paint, rng))
    return layer


def _sedan(pen: _Pen) -> None:
    roof = pen.rng.uniform(96, 108)
    pen.panel((20, 190), (24, 150), (90, 142), (130, roof), (238, roof), (290, 144), (368, 154), (380, 190))
    pen.window((138, roof + 10), (184, roof + 10), (184, 142), (112, 142))
    pen.window((194, roof + 10), (232, roof + 10), (272, 142), (194, 142))
    pen.bar((190, 144), (190, 186), pen.seam, 3)
    pen.wheel(96, 32)
    pen.wheel(308, 32)
    pen.block(366, 160, 378, 168, _HEADLIGHT)
    pen.block(20, 158, 30, 168, (225, 40, 40, 255))


def _suv(pen: _Pen) -> None:
    roof = pen.rng.uniform(52, 62)
    pen.panel((28, 184), (26, roof + 14), (44, roof), (236, roof), (286, 110), (362, 120), (376, 184))
    pen.window((48, roof + 14), (120, roof + 14), (120, 110), (46, 110))
    pen.window((130, roof + 14), (180, roof + 14), (180, 110), (130, 110))
    pen.window((190, roof + 14), (230, roof + 14), (266, 110), (190, 110))
    pen.bar((60, roof - 8), (220, roof - 8), _OUTLINE, 6)
    pen.block(24, 176, 378, 190, _BUMPER)
    pen.wheel(98, 40)
    pen.wheel(302, 40)
    pen.block(6, 112, 26, 158, _RUBBER)
    pen.block(358, 128, 374, 140, _HEADLIGHT)


def _pickup(pen: _Pen) -> None:
    roof = pen.rng.uniform(72, 84)
    pen.panel((16, 188), (16, 132), (180, 132), (180, roof), (266, roof), (300, 130), (372, 138), (382, 188))
    pen.window((190, roof + 10), (226, roof + 10), (226, 128), (190, 128))
    pen.window((234, roof + 10), (260, roof + 10), (286, 128), (234, 128))
    pen.block(18, 124, 178, 134, pen.seam)
    pen.bar((182, 134), (182, 186), _OUTLINE, 3)
    pen.wheel(90, 36)
    pen.wheel(310, 36)
    pen.block(368, 144, 380, 154, _HEADLIGHT)


def _truck(pen: _Pen) -> None:
    roof = pen.rng.uniform(18, 30)
    pen.panel((6, 184), (6, roof), (270, roof), (270, 184))
    for x in (70, 136, 202):
        pen.bar((x, 32), (x, 180), pen.seam, 3)
    pen.block(6, 182, 390, 194, _BUMPER)
    pen.panel((280, 188), (280, 80), (340, 80), (372, 130), (390, 138), (390, 188))
    pen.window((294, 92), (334, 92), (360, 130), (294, 130))
    for x in (56, 112, 336):
        pen.wheel(x, 30)


def _bus(pen: _Pen) -> None:
    roof = pen.rng.uniform(42, 54)
    pen.panel((6, 194), (6, roof), (384, roof), (394, roof + 20), (394, 194))
    windows = int(pen.rng.integers(5, 7))
    pitch = 300 / windows
    for left in (20 + i * pitch for i in range(windows)):
        box = [left, roof + 18, left + pitch - 9, roof + 64]
        pen.draw.rectangle(box, fill=pen.glass, outline=_OUTLINE, width=2)
    pen.window((334, roof + 18), (388, roof + 18), (390, roof + 84), (334, roof + 84))
    pen.block(8, roof + 92, 392, roof + 100, pen.seam)
    pen.wheel(88, 30)
    pen.wheel(306, 30)
    pen.block(338, roof + 4, 388, roof + 13, (250, 200, 60, 255))


def _van(pen: _Pen) -> None:
    roof = pen.rng.uniform(50, 62)
    pen.panel((24, 190), (24, roof + 12), (40, roof), (262, roof), (330, 112), (372, 128), (380, 190))
    pen.window((222, roof + 14), (258, roof + 14), (316, 114), (222, 114))
    pen.bar((212, roof + 6), (212, 186), pen.seam, 4)
    pen.bar((120, roof + 6), (120, 186), pen.seam, 4)
    pen.bar((124, 126), (208, 126), pen.seam, 4)
    pen.wheel(92, 31)
    pen.wheel(312, 31)
    pen.block(366, 140, 378, 152, _HEADLIGHT)


def _bicycle(pen: _Pen) -> None:
    rear, front, pedals = (96.0, 158.0), (304.0, 158.0), (190.0, 158.0)
    seat, head, bars = (160.0, 82.0), (276.0, 82.0), (270.0, 56.0)
    for hub in (rear, front):
        _spoked_wheel(pen, hub, 62)
    tubes = [(rear, pedals), (pedals, seat), (seat, head), (head, pedals), (rear, seat), (head, front), (head, bars)]
    _tubes(pen, tubes, width=int(pen.rng.integers(15, 19)))
    pen.block(132, 60, 186, 74, _RUBBER)
    pen.bar(seat, (158, 68), _OUTLINE, 8)
    pen.bar((270, 56), (300, 48), _RUBBER, 8)


def _spoked_wheel(pen: _Pen, hub: Point, radius: float) -> None:
    x, y = hub
    pen.draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=_RUBBER, width=9)
    for spoke in range(4):
        dx, dy = radius * math.cos(spoke * math.pi / 4), radius * math.sin(spoke * math.pi / 4)
        pen.bar((x - dx, y - dy), (x + dx, y + dy), (130, 130, 135, 255), 2)


def _tubes(pen: _Pen, tubes: Sequence[tuple[Point, Point]], width: int) -> None:
    """All outlines first, or each tube's outline would cross the paint of the one before."""
    for start, end in tubes:
        pen.bar(start, end, _OUTLINE, width + 5)
    for start, end in tubes:
        pen.bar(start, end, pen.paint, width)


def _motorcycle(pen: _Pen) -> None:
    radius = 48
    axle = GROUND - radius
    for x in (90, 312):
        pen.disc(x, axle, radius, _RUBBER)
        pen.disc(x, axle, radius * 0.55, _HUB)
    pen.bar((262, 78), (312, axle), (150, 150, 155, 255), 11)
    pen.block(160, 140, 236, 196, (96, 98, 102, 255))
    pen.bar((90, axle), (180, 180), (120, 120, 124, 255), 10)
    pen.bar((90, 206), (190, 200), (190, 190, 195, 255), 9)
    pen.panel((176, 98), (214, 72), (272, 84), (276, 120), (240, 146), (170, 142))
    pen.panel((58, 96), (104, 84), (120, 118), (150, 138), (96, 140))
    pen.draw.polygon([(98, 92), (180, 92), (182, 110), (116, 114)], fill=_RUBBER)
    pen.panel((268, 112), (352, 128), (356, 146), (300, 132))
    pen.bar((262, 78), (238, 50), _RUBBER, 9)
    pen.disc(287, 87, 13, _HEADLIGHT)


VEHICLES: Final[Mapping[str, Callable[[_Pen], None]]] = {
    "sedan": _sedan,
    "suv": _suv,
    "pickup": _pickup,
    "truck": _truck,
    "bus": _bus,
    "van": _van,
    "bicycle": _bicycle,
    "motorcycle": _motorcycle,
}
"""A painter for every key of `captions.KINDS`."""
