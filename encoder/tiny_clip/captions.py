"""The vocabulary of the drawn pictures, and every caption that is true of one, in English and Chinese."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

Language = Literal["en", "zh"]
Form = Literal["colour kind scene", "colour kind", "kind", "colour", "kind scene"]


class Words(NamedTuple):
    """The ways to say one thing; the first of each is the usual one."""

    en: tuple[str, ...]
    zh: tuple[str, ...]


class Subject(NamedTuple):
    """What one picture shows, as keys of `KINDS`, `COLOURS` and `SCENES`."""

    kind: str
    colour: str
    scene: str


@dataclass(frozen=True, slots=True)
class Caption:
    """A text with what it says; None where it is silent."""

    text: str
    kind: str | None = None
    colour: str | None = None
    scene: str | None = None

    def is_true_of(self, subject: Subject) -> bool:
        return (
            self.kind in (None, subject.kind)
            and self.colour in (None, subject.colour)
            and self.scene in (None, subject.scene)
        )


# Plurals stand beside singulars, so that "red cars" finds what "red car" finds.
KINDS: Final[Mapping[str, Words]] = {
    "sedan": Words(("sedan", "car", "saloon car", "cars"), ("轿车", "小汽车")),
    "suv": Words(("suv", "off-road suv", "sport utility vehicle"), ("越野车", "suv")),
    "pickup": Words(("pickup", "pickup truck"), ("皮卡", "皮卡车")),
    "truck": Words(("truck", "lorry", "box truck", "trucks"), ("卡车", "货车")),
    "bus": Words(("bus", "city bus", "coach", "buses"), ("公交车", "巴士", "大客车")),
    "van": Words(("van", "minivan"), ("面包车", "厢式车")),
    "bicycle": Words(("bicycle", "bike", "bicycles"), ("自行车", "单车")),
    "motorcycle": Words(("motorcycle", "motorbike"), ("摩托车",)),
}

COLOURS: Final[Mapping[str, Words]] = {
    "red": Words(("red", "crimson"), ("红色", "红")),
    "orange": Words(("orange",), ("橙色",)),
    "yellow": Words(("yellow",), ("黄色", "黄")),
    "green": Words(("green",), ("绿色", "绿")),
    "blue": Words(("blue",), ("蓝色", "蓝")),
    "purple": Words(("purple", "violet"), ("紫色",)),
    "white": Words(("white",), ("白色", "白")),
    "black": Words(("black",), ("黑色", "黑")),
    "silver": Words(("silver", "gray", "grey"), ("银色", "灰色")),
    "brown": Words(("brown",), ("棕色", "咖啡色")),
}

SCENES: Final[Mapping[str, Words]] = {
    "city": Words(
        ("in the city", "on a city street", "in front of buildings", "downtown"), ("城市街道上", "城市里", "楼房前")
    ),
    "desert": Words(("in the desert", "among sand dunes"), ("沙漠里", "沙漠中")),
    "forest": Words(("in the forest", "among trees", "in the woods"), ("森林里", "树林中")),
    "beach": Words(("on the beach", "by the sea"), ("海边", "海滩上")),
    "snow": Words(("in the snow", "on a snowy road"), ("雪地里", "雪地上")),
    "mountain": Words(("in the mountains", "on a mountain road"), ("山路上", "山里")),
    "night": Words(("at night", "under the night sky"), ("夜晚", "夜里")),
}

SUBJECTS: Final = tuple(Subject(kind, colour, scene) for kind in KINDS for colour in COLOURS for scene in SCENES)
"""Every picture there can be, once."""

TEMPLATES: Final[Mapping[Language, Mapping[Form, tuple[str, ...]]]] = {
    "en": {
        "colour kind scene": (
            "a {colour} {kind} {scene}",
            "a photo of a {colour} {kind} {scene}",
            "{colour} {kind} {scene}",
            "a picture of one {colour} {kind} {scene}",
            "there is a {colour} {kind} {scene}",
        ),
        "colour kind": (
            "a {colour} {kind}",
            "a photo of a {colour} {kind}",
            "{colour} {kind}",
            "a picture of a {colour} {kind}",
            "an image of a {colour} {kind}",
            "the {colour} {kind}",
            "a {kind} painted {colour}",
            "the {kind} is {colour}",
        ),
        "kind": ("a {kind}", "a photo of a {kind}", "{kind}"),
        "colour": ("a {colour} vehicle", "something {colour}"),
        "kind scene": ("a {kind} {scene}", "a photo of a {kind} {scene}"),
    },
    "zh": {
        "colour kind scene": (
            "{scene}的{colour}{kind}",
            "一辆{colour}的{kind}在{scene}",
            "一辆{colour}{kind}停在{scene}",
        ),
        "colour kind": (
            "一辆{colour}的{kind}",
            "{colour}{kind}",
            "{colour}的{kind}",
            "一张{colour}{kind}的照片",
            "一辆{colour}{kind}",
        ),
        "kind": ("一辆{kind}", "{kind}", "{kind}的照片"),
        "colour": ("{colour}的车辆", "{colour}的车"),
        "kind scene": ("{scene}的{kind}", "一辆{kind}在{scene}"),
    },
}

# Colour and kind together are what people ask for, so they are said most often.
_FORM_SHARES: Final[Mapping[Form, float]] = {
    "colour kind scene": 0.30,
    "colour kind": 0.45,
    "kind": 0.09,
    "colour": 0.06,
    "kind scene": 0.10,
}
_FORMS: Final[tuple[Form, ...]] = tuple(_FORM_SHARES)
_CHINESE_SHARE: Final = 0.35
_BEFORE_VOWEL_SOUND: Final = re.compile(r"\ba (?=orange|off-road|suv)")


def random_caption(subject: Subject, rng: np.random.Generator, language: Language | None = None) -> Caption:
    """One caption true of `subject`; without a language, a third of them are Chinese."""
    chosen = language or ("zh" if rng.random() < _CHINESE_SHARE else "en")
    form = _FORMS[int(rng.choice(len(_FORMS), p=list(_FORM_SHARES.values())))]
    template = _pick(TEMPLATES[chosen][form], rng)
    return _caption(
        template,
        subject,
        kind=_pick(_words(KINDS[subject.kind], chosen), rng),
        colour=_pick(_words(COLOURS[subject.colour], chosen), rng),
        scene=_pick(_words(SCENES[subject.scene], chosen), rng),
    )


def colour_kind_captions(language: Language) -> Iterator[Caption]:
    """Every way to ask for a kind in a colour, the colour by its usual word: the queries of the evaluation."""
    for template in TEMPLATES[language]["colour kind"]:
        for kind, kind_words in KINDS.items():
            for colour, colour_words in COLOURS.items():
                subject = Subject(kind, colour, scene="")
                for word in _words(kind_words, language):
                    yield _caption(template, subject, kind=word, colour=_words(colour_words, language)[0], scene="")


def _caption(template: str, subject: Subject, *, kind: str, colour: str, scene: str) -> Caption:
    text = template.format(kind=kind, colour=colour, scene=scene)
    return Caption(
        text=_BEFORE_VOWEL_SOUND.sub("an ", text),
        kind=subject.kind if "{kind}" in template else None,
        colour=subject.colour if "{colour}" in template else None,
        scene=subject.scene if "{scene}" in template else None,
    )


def _words(words: Words, language: Language) -> tuple[str, ...]:
    return words.en if language == "en" else words.zh


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
