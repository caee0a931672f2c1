"""`export`, `duplicates`, `stats` and `similar` on an embedded store: opened by the command itself, and held open by another one's API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson
import pytest
from pyarrow import parquet
from pydantic import SecretStr
from rich.console import Console

from pixtail.app import asking
from pixtail.app import export as exporting
from pixtail.app.duplicates import duplicates, print_duplicates
from pixtail.app.export import export
from pixtail.app.reading import whole_index
from pixtail.app.searching import search, similar
from pixtail.app.stats import print_stats, read_stats
from pixtail.core.errors import ModelError, PixtailError, StoreBusy, StoreUnreachable, UsageError
from pixtail.core.points import StoredPoint
from pixtail.core.settings import Api, Model, Qdrant, Settings
from pixtail.search.rows import from_line
from pixtail.servers.process import free_port
from sink.edge import EdgeStore
from sink.memory import MemoryStore
from tests.api_world import World, serving

NOBODY = Console(file=StringIO())
ROWS = 30
COLOURS = ("red", "green", "blue")


def filled(path: Path, api_address: str | None = None) -> World:
    world = World(store=cast(MemoryStore, EdgeStore(path, "images", api_address=api_address)))
    for row in range(1, ROWS + 1):
        world.add(row, COLOURS[row % 3], category=("bus", "car")[row % 2], title=f"line\u2028separator {row}")
    world.add(100, "pink")
    return world


@pytest.fixture(params=["opened here", "held open by another"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Of a store with thirty pictures in three colours, each colour a file of its own, and one that is pink."""
    port, path = free_port(), tmp_path / "store"
    chosen = Settings(qdrant=Qdrant(path=path))
    if request.param == "opened here":
        with closing(filled(path).store):
            pass
        yield chosen
        return
    world = filled(path, f"http://127.0.0.1:{port}")
    with closing(world.store), serving(world, port):
        yield chosen


def lines(file: Path) -> list[StoredPoint]:
    return [from_line(line) for line in file.read_bytes().split(b"\n") if line]


def test_an_export_has_every_point_once_in_the_order_of_ids(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    assert export(settings, "jsonl", file, [], NOBODY) == ROWS + 1
    found = lines(file)
    assert [point.id for point in found] == [*range(1, ROWS + 1), 100]
    assert found[4].payload["title"] == "line\u2028separator 5"
    assert found[4].sync is not None
    assert found[4].sync.facts.width == 64
    assert found[4].vector is not None
    assert np.linalg.norm(found[4].vector) == pytest.approx(1, abs=1e-6)


def test_an_array_has_the_vectors_in_the_order_of_the_lines_beside_it(settings: Settings, tmp_path: Path) -> None:
    assert export(settings, "npy", tmp_path / "cars.npy", ["category=car"], NOBODY) == ROWS // 2
    array, beside = np.load(tmp_path / "cars.npy"), lines(tmp_path / "cars.jsonl")
    assert (array.shape, array.dtype) == ((ROWS // 2, 3), np.float32)
    assert {point.payload["category"] for point in beside} == {"car"}
    with whole_index(settings, [("category", "car")], with_vectors=True) as reading:
        for point, line, vector in zip(reading.points, beside, array, strict=True):
            assert (point.id, line.vector) == (line.id, None)
            assert np.array_equal(np.float32(point.vector), vector)


def test_an_export_without_vectors_has_none(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    export(settings, "jsonl", file, [], NOBODY, vectors=False)
    assert {point.vector for point in lines(file)} == {None}


def test_a_selection_that_fits_nothing_is_an_empty_file_and_an_unknown_column_none(
    settings: Settings, tmp_path: Path
) -> None:
    assert export(settings, "npy", tmp_path / "none.npy", ["category=tram"], NOBODY) == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 0)
    with pytest.raises(UsageError, match="no image has a column colour"):
        export(settings, "jsonl", tmp_path / "colour.jsonl", ["colour=red"], NOBODY)
    assert {file.name for file in tmp_path.iterdir()} == {"store", "none.npy", "none.jsonl"}


def test_a_file_that_exists_is_kept_unless_it_is_forced(settings: Settings, tmp_path: Path) -> None:
    for name, form in (("a.jsonl", "jsonl"), ("a.npy", "npy")):  # the array's lines would be a.jsonl
        (tmp_path / "a.jsonl").write_text("precious")
        with pytest.raises(UsageError, match=r"a\.jsonl exists\. .*--force"):
            export(settings, cast(Any, form), tmp_path / name, [], NOBODY)
        assert (tmp_path / "a.jsonl").read_text() == "precious"
        assert export(settings, cast(Any, form), tmp_path / name, [], NOBODY, force=True) == ROWS + 1
        assert len(lines(tmp_path / "a.jsonl")) == ROWS + 1


def test_an_export_that_fails_half_way_leaves_the_old_file_and_nothing_else(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.npy").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.os, "fsync", full)
    with pytest.raises(PixtailError, match=r"a\.npy cannot be written: No space left on device\. Free some space"):
        export(settings, "npy", tmp_path / "a.npy", [], NOBODY, force=True)
    assert {file.name for file in tmp_path.iterdir()} == {"store", "a.npy"}
    assert (tmp_path / "a.npy").read_text() == "old"


def test_duplicates_are_found_wherever_the_store_is_open(settings: Settings) -> None:
    found = duplicates(settings, 0.8, 10, NOBODY)
    assert [copies["ids"] for copies in found["exact"]] == [list(range(first, ROWS + 1, 3)) for first in (1, 2, 3)]
    ((pink, red),) = found["near"]
    assert {pink["id"], red["id"]} == {3, 100}
    out = StringIO()
    print_duplicates(found, Console(file=out, width=200))
    assert "31 images, 3 groups of copies, 1 groups alike by 0.8 or more" in out.getvalue()
    assert duplicates(settings, None, 2, NOBODY)["near"] == []


def test_statistics_count_wherever_the_store_is_open(settings: Settings) -> None:
    found = read_stats(settings, ["category"])
    assert (found["points"], found["foreign"], found["dimension"]) == (ROWS + 1, 0, 3)
    assert found["by"]["category"] == [{"value": v, "count": n} for v, n in (("bus", 15), ("car", 15), (None, 1))]
    out = StringIO()
    print_stats(found, Console(file=out, width=200))
    assert "31 PNG" in out.getvalue()
    with pytest.raises(UsageError, match="no image has a column colour"):
        read_stats(settings, ["colour"])


def test_similar_pictures_are_the_nearest_without_the_picture_itself(settings: Settings) -> None:
    hits = similar(settings, "3", 10, None)
    assert {hit["id"] for hit in hits[:9]} == {*range(6, ROWS + 1, 3)}
    assert hits[9]["id"] == 100
    assert hits[0]["sync"]["sha256"]
    assert [hit["id"] for hit in similar(settings, "3", 10, 0.99)] == [hit["id"] for hit in hits[:9]]
    with pytest.raises(PixtailError, match="the index has no image '99'") as caught:
        similar(settings, "99", 10, None)
    assert caught.value.exit_status == 1


def test_a_parquet_table_has_the_columns_under_their_names(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    assert export(settings, "parquet", file, [], NOBODY) == ROWS + 1
    table = parquet.read_table(file)
    with whole_index(settings, with_vectors=True) as reading:
        points = list(reading.points)
    assert table["id"].to_pylist() == [point.id for point in points]
    assert table["title"].to_pylist() == [point.payload.get("title") for point in points]
    assert [row["sha256"] for row in table["sync"].to_pylist()] == [p.sync.facts.sha256 for p in points if p.sync]
    assert np.allclose(np.stack(table["vector"].to_numpy()), np.array([point.vector for point in points]))
    assert export(settings, "parquet", tmp_path / "bare.parquet", ["category=bus"], NOBODY, vectors=False) == ROWS // 2
    assert "vector" not in parquet.read_schema(tmp_path / "bare.parquet").names


@pytest.mark.parametrize(
    ("form", "output", "vectors", "words"),
    [
        ("npy", "-", True, "standard output"),
        ("parquet", "-", True, "standard output"),
        ("npy", "a.npy", False, "--no-vectors"),
        ("jsonl", "no/a", True, "folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    tmp_path: Path, form: Any, output: str, vectors: bool, words: str
) -> None:
    file = Path(output) if output == "-" else tmp_path / output
    with pytest.raises(UsageError, match=words):
        export(Settings(qdrant=Qdrant(path=tmp_path / "none")), form, file, [], NOBODY, vectors=vectors)
    with pytest.raises(UsageError, match="COLUMN=VALUE"):
        export(Settings(), "jsonl", Path("-"), ["category"], NOBODY)


def test_a_store_without_a_collection_says_so(tmp_path: Path) -> None:
    settings = Settings(qdrant=Qdrant(path=tmp_path))
    for ask in (
        lambda: export(settings, "jsonl", tmp_path / "a", [], NOBODY),
        lambda: duplicates(settings, 0.9, 1, NOBODY),
        lambda: read_stats(settings, []),
        lambda: similar(settings, "1", 1, None),
    ):
        with pytest.raises(PixtailError, match="there is no collection images"):
            ask()


def test_a_holder_without_an_api_is_named(tmp_path: Path) -> None:
    with closing(filled(tmp_path).store), pytest.raises(StoreBusy, match=f"process {os.getpid()}"):
        duplicates(Settings(qdrant=Qdrant(path=tmp_path)), 0.9, 1, NOBODY)


def test_the_token_is_shown_to_the_process_that_asks_for_it(tmp_path: Path) -> None:
    port = free_port()
    world = filled(tmp_path, f"http://127.0.0.1:{port}")
    world.settings = Settings(api=Api(token=SecretStr("s3cret")))
    with closing(world.store), serving(world, port):
        with pytest.raises(PixtailError, match=r"refused: this needs api\.token"):
            duplicates(Settings(qdrant=Qdrant(path=tmp_path)), 0.9, 1, NOBODY)
        knowing = Settings(qdrant=Qdrant(path=tmp_path), api=Api(token=SecretStr("s3cret")))
        assert duplicates(knowing, 0.9, 1, NOBODY)["points"] == ROWS + 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_export_whose_source_breaks_off_is_no_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    world = filled(tmp_path / "store", f"http://127.0.0.1:{port}")
    monkeypatch.setattr("pixtail.search.whole.LINES_A_CHUNK", 2)
    whole = world.store.scan

    def breaking(**options: Any) -> Iterator[StoredPoint]:
        for number, point in enumerate(whole(**options)):
            if number == 20:
                raise StoreUnreachable("the disk is gone")
            yield point

    monkeypatch.setattr(world.store, "scan", breaking)
    with closing(world.store), serving(world, port), pytest.raises(StoreUnreachable, match="does not answer"):
        export(Settings(qdrant=Qdrant(path=tmp_path / "store")), "jsonl", tmp_path / "a.jsonl", [], NOBODY)
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_end_at_line_feeds_wherever_the_pieces_are_cut(size: int) -> None:
    texts = [orjson.dumps({"a": text}) for text in ("x", "\u2028y\u0085", "z\r", "")]
    sent = b"".join(text + b"\n" for text in texts)
    pieces = (sent[start : start + size] for start in range(0, len(sent), size))
    assert list(asking._lines(pieces)) == texts


def test_a_search_loads_no_model_where_the_store_is_open_elsewhere(tmp_path: Path) -> None:
    """It takes ten seconds, and the other process has one."""
    settings = Settings(qdrant=Qdrant(path=tmp_path / "store"), model=Model(name=str(tmp_path / "no-model")))
    with closing(filled(tmp_path / "store").store), pytest.raises(StoreBusy):
        search(settings, "a red bus", None, 3, None)
    with pytest.raises(ModelError):
        search(settings, "a red bus", None, 3, None)
