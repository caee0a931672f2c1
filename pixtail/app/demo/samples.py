"""The demo's rows and pictures: vehicles drawn by the same code that the tiny CLIP was trained on, from other seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from encoder.tiny_clip.captions import COLOURS, KINDS, SCENES, SUBJECTS, Subject
from encoder.tiny_clip.drawing import draw

SEED = 20_000_000  # training counts up from 1,000,000, held-out evaluation from 9,000,000
BRANDS = (("Meridian", "子午"), ("Alder", "赤杨"), ("Kestrel", "红隼"), ("Tideway", "潮路"))
SIZES = ((320, 240), (640, 480))


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of `images`; `file_path` is relative to the pictures' folder."""

    title: str
    description: str
    file_path: str
    category: str
    model_id: int
    brand_id: int

    def values(self) -> tuple[str, str, str, str, int, int]:
        return self.title, self.description, self.file_path, self.category, self.model_id, self.brand_id


def subjects(seed: int = SEED) -> Iterator[Subject]:
    """Every kind, colour and scene in turn, shuffled, for ever."""
    return cycle(random.Random(seed).sample(SUBJECTS, len(SUBJECTS)))


def make_samples(folder: Path, count: int, first: int = 0) -> Iterator[Sample]:
    """Draws pictures `first` … `first + count − 1` into `folder`, each as its row is asked for."""
    for number, subject in enumerate(islice(subjects(), first, first + count), start=first):
        yield make_sample(folder, subject, number)


def make_sample(folder: Path, subject: Subject, number: int) -> Sample:
    """Draws one picture as a JPEG; the same number draws the same pixels."""
    rng = np.random.default_rng(SEED + number)
    path = f"{subject.kind}/{number:06d}-{subject.colour}-{subject.kind}.jpg"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    draw(subject.kind, subject.colour, subject.scene, rng, SIZES[number % 3 == 0]).save(folder / path, quality=88)
    return Sample(
        title=f"{subject.colour} {KINDS[subject.kind].en[0]} {SCENES[subject.scene].en[0]}",
        description=f"{SCENES[subject.scene].zh[0]}的{COLOURS[subject.colour].zh[0]}{KINDS[subject.kind].zh[0]}",
        file_path=path,
        category=subject.kind,
        model_id=1 + list(KINDS).index(subject.kind),
        brand_id=1 + number % len(BRANDS),
    )
