"""The demo's check: every promise tried by plain SQL, and its effect looked for from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from encoder.tiny_clip.captions import Subject
from pixtail.app.demo.client import ApiClient
from pixtail.app.demo.database import Database
from pixtail.app.demo.freshness import Freshness, measure
from pixtail.app.demo.samples import Sample, make_sample, make_samples
from pixtail.app.demo.stack import Stack
from pixtail.core.errors import PixtailError

LIMIT_S = 30.0
NEW_PICTURES = 900_000  # numbers of pictures that the demo itself does not use
STREAM_RATE_PER_S = 20
STREAM_SECONDS = 10


class CheckFailed(PixtailError):
    """An effect that should be there is not."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report; `seconds` is from the commit until the effect was seen."""

    name: str
    ok: bool
    detail: str
    seconds: float


class Checks:
    """The steps, each a method that raises `PixtailError` or says what it saw. They build on each other: run them in order."""

    def __init__(self, stack: Stack, database: Database, api: ApiClient, rows: int) -> None:
        self._stack = stack
        self._database = database
        self._api = api
        self._rows = rows
        self._id = 0
        self.freshness: Freshness | None = None

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("every row is searchable", self.every_row),
            ("text finds pictures, in English and Chinese", self.text_search),
            ("a picture finds itself", self.image_search),
            ("INSERT: searchable", self.insert),
            ("UPDATE of the title: new payload, nothing encoded", self.update_title),
            ("UPDATE of a brand: new name in all its points, nothing encoded", self.rename_brand),
            ("UPDATE of the picture: new vector", self.update_picture),
            ("UPDATE of the primary key: point moved", self.change_key),
            ("DELETE: point gone", self.delete),
            ("a picture that is a text file: dead letter, neighbours unharmed", self.bad_picture),
            ("the mended row: searchable, dead letter closed", self.mended_picture),
            (f"{STREAM_RATE_PER_S} rows/s: commit to searchable", self.stream),
        ]

    def run(self) -> Iterator[Result]:
        for name, step in self.steps():
            began = time.monotonic()
            try:
                yield Result(name, True, step(), time.monotonic() - began)
            except PixtailError as error:
                yield Result(name, False, str(error), time.monotonic() - began)

    def every_row(self) -> str:
        self._wait(lambda: self._api.points() == self._rows, f"{self._rows} points, as the table has rows")
        return f"{self._rows} rows, {self._api.points()} points"

    def text_search(self) -> str:
        return "; ".join(self._finds(query, category) for query, category in (("a bus", "bus"), ("自行车", "bicycle")))

    def _finds(self, query: str, category: str) -> str:
        hits = self._api.search(query, limit=5)
        found = [hit["payload"]["category"] for hit in hits]
        self._expect(found == [category] * 5, f"search for “{query}” found {found}, not five times {category}")
        return f"“{query}” → {hits[0]['payload']['title']} ({hits[0]['score']:.2f})"

    def image_search(self) -> str:
        hit = self._api.search("a bus", limit=1)[0]
        data = (self._stack.pictures / hit["payload"]["file_path"]).read_bytes()
        best = self._api.search_image(data)[0]
        self._expect(
            best["id"] == hit["id"] and best["score"] > 0.999, f"the picture of {hit['id']} found {best['id']}"
        )
        return f"image {best['id']} found itself ({best['score']:.3f})"

    def insert(self) -> str:
        sample = self._sample(Subject("bus", "purple", "snow"), 1)
        encoded = self._encoded()
        self._id = self._database.insert_one(sample)
        seconds = self._wait_for_image(self._id)
        self._wait(lambda: self._encoded() > encoded, "the count of encoded pictures")  # it follows the point
        ids = [hit["id"] for hit in self._api.search("purple bus in the snow", limit=10)]
        self._expect(self._id in ids, f"search for “purple bus in the snow” found {ids}, without {self._id}")
        return f"id {self._id} after {_ms(seconds)}"

    def update_title(self) -> str:
        encoded = self._encoded()
        self._database.execute("UPDATE images SET title = %s WHERE id = %s", ("renamed by the check ✓", self._id))
        seconds = self._wait(lambda: self._payload("title") == "renamed by the check ✓", "the new title")
        self._expect(self._encoded() == encoded, f"{self._encoded() - encoded:.0f} pictures were encoded again")
        return f"after {_ms(seconds)}"

    def rename_brand(self) -> str:
        encoded, brand = self._encoded(), self._payload("brand_id")
        self._database.execute("UPDATE brands SET name = %s WHERE id = %s", ("Renamed ✓", brand))
        seconds = self._wait(lambda: self._payload("brand_name") == "Renamed ✓", "the brand's new name")
        shown = [hit["payload"] for hit in self._api.search("a vehicle", limit=100)]
        names = {payload["brand_name"] for payload in shown if payload["brand_id"] == brand}
        self._expect(names <= {"Renamed ✓"}, f"points of the brand show the names {names}")
        self._expect(self._encoded() == encoded, f"{self._encoded() - encoded:.0f} pictures were encoded again")
        return f"after {_ms(seconds)}"

    def update_picture(self) -> str:
        sample = self._sample(Subject("bicycle", "yellow", "beach"), 2)
        self._database.execute("UPDATE images SET file_path = %s WHERE id = %s", (sample.file_path, self._id))
        seconds = self._wait(lambda: self._payload("file_path") == sample.file_path, "the new picture")
        data = (self._stack.pictures / sample.file_path).read_bytes()
        best = self._api.search_image(data, limit=1)[0]
        self._expect(best["id"] == self._id and best["score"] > 0.999, f"the new picture finds {best['id']}")
        return f"after {_ms(seconds)}"

    def change_key(self) -> str:
        old, self._id = self._id, self._id + 1_000_000
        self._database.execute("UPDATE images SET id = %s WHERE id = %s", (self._id, old))
        seconds = self._wait_for_image(self._id)
        self._wait(lambda: self._api.image(old) is None, f"image {old} gone")
        return f"{old} → {self._id} after {_ms(seconds)}"

    def delete(self) -> str:
        self._database.execute("DELETE FROM images WHERE id = %s", (self._id,))
        seconds = self._wait(lambda: self._api.image(self._id) is None, f"image {self._id} gone")
        self._expect(self._api.points() == self._rows, f"{self._api.points()} points for {self._rows} rows")
        return f"after {_ms(seconds)}"

    def bad_picture(self) -> str:
        path = self._stack.pictures / "notes.jpg"
        path.write_text("This is a text file that calls itself a picture.")
        good = self._sample(Subject("truck", "green", "desert"), 3)
        bad = Sample("no picture", "", path.name, "truck", 1, 1)
        first = self._database.insert_one(good)
        self._id = self._database.insert_one(bad)
        last = self._database.insert_one(good)
        self._wait(lambda: self._reason(self._id) is not None, f"a dead letter for {self._id}")
        self._wait_for_image(first)
        self._wait_for_image(last)
        self._expect(self._api.image(self._id) is None, f"image {self._id} is in the index")
        return f"id {self._id}: {self._reason(self._id)}; {first} and {last} are searchable"

    def mended_picture(self) -> str:
        sample = self._sample(Subject("truck", "orange", "forest"), 4)
        self._database.execute("UPDATE images SET file_path = %s WHERE id = %s", (sample.file_path, self._id))
        seconds = self._wait_for_image(self._id)
        self._wait(lambda: self._reason(self._id) is None, f"the dead letter of {self._id} closed")
        return f"after {_ms(seconds)}"

    def stream(self) -> str:
        samples = list(make_samples(self._stack.pictures, STREAM_RATE_PER_S * STREAM_SECONDS, NEW_PICTURES + 100))
        self.freshness = measure(self._stack.places, samples, STREAM_RATE_PER_S)
        return f"{self.freshness.rows} rows, p50 {_ms(self.freshness.p50_s)}, p99 {_ms(self.freshness.p99_s)}"

    def _sample(self, subject: Subject, number: int) -> Sample:
        return make_sample(self._stack.pictures, subject, NEW_PICTURES + number)

    def _encoded(self) -> float:
        return self._api.metric("pixtail_images_total", outcome="encoded")

    def _payload(self, column: str) -> object:
        image = self._api.image(self._id)
        return image and image["payload"].get(column)

    def _reason(self, key: int) -> str | None:
        return next((f["reason"] for f in self._api.failures() if f["key"] == {"id": key}), None)

    def _wait_for_image(self, key: int) -> float:
        return self._wait(lambda: self._api.image(key) is not None, f"image {key} in the index")

    def _wait(self, done: Callable[[], bool], what: str) -> float:
        return self._stack.wait(done, LIMIT_S, what)

    @staticmethod
    def _expect(holds: bool, otherwise: str) -> None:
        if not holds:
            raise CheckFailed(otherwise)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
