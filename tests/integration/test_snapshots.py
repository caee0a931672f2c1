"""Snapshots of the embedded store: whole, of one moment, put back as it was or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from pixtail.app.snapshots import restore as restore_command
from pixtail.app.snapshots import snapshot as snapshot_command
from pixtail.core.errors import PixtailError, StoreBusy, StoreUnreachable, UsageError
from pixtail.core.points import Delete, Gone
from pixtail.core.settings import Api, Qdrant, Settings
from pixtail.servers.process import free_port
from sink.edge import EdgeStore
from sink.edge_snapshot import MANIFEST, restore
from tests.api_world import World, serving
from tests.support.points import DIMENSION, direction, set_payload, sync, upsert


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


@pytest.fixture
def store(path: Path) -> Iterator[EdgeStore]:
    with closing(opened(path)) as store:
        store.apply([upsert(i, 10, {"title": f"名 {i}"}, direction(i)) for i in range(200)])
        store.apply([set_payload(1, 11, {"title": "renamed"}), Delete(2, 12)])
        yield store


@pytest.fixture
def file(tmp_path: Path, store: EdgeStore) -> Path:
    assert store.snapshot(tmp_path / "index.tar") == 199
    return tmp_path / "index.tar"


def opened(path: Path, **options: object) -> EdgeStore:
    store = EdgeStore(path, "images", **options)  # type: ignore[arg-type]
    store.prepare(DIMENSION, "f00d")
    return store


def test_what_is_put_back_is_what_there_was(store: EdgeStore, file: Path, elsewhere: Path) -> None:
    assert restore(file, elsewhere, "images", force=False).points == 199
    with closing(opened(elsewhere)) as again:
        ids = range(200)
        assert again.get(ids, with_vectors=True) == store.get(ids, with_vectors=True)
        assert again.versions(ids) == store.versions(ids)
        assert again.versions([1, 2]) == {1: sync(11), 2: Gone(12)}


def test_it_goes_on_from_there(file: Path, elsewhere: Path) -> None:
    restore(file, elsewhere, "images", force=False)
    with closing(opened(elsewhere)) as again:
        assert again.apply([upsert(3, 9), upsert(2, 11)]).stale == {2, 3}, "what is older stays away"
        assert again.apply([upsert(3, 20), upsert(1000, 1), Delete(4, 20)]).written == 3
    with closing(opened(elsewhere)) as reopened:
        assert reopened.versions([3, 4, 1000]) == {3: sync(20), 4: Gone(20), 1000: sync(1)}
        assert reopened.count() == 199


class Writers:
    """Two threads that write batches of ten rows each for as long as the block lasts."""

    def __init__(self, store: EdgeStore) -> None:
        self.acknowledged: list[int] = []  # the first id of each batch
        self._more = threading.Condition()
        self._store = store
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(n * 1_000_000,)) for n in (1, 2)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, batches: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.acknowledged) >= batches, timeout=60)

    def _write(self, first: int) -> None:
        while not self._done.is_set():
            self._store.apply([upsert(id_, 1) for id_ in whole_batch(first)])
            with self._more:
                self.acknowledged.append(first)
                self._more.notify()
            first += 10


def whole_batch(first: int) -> list[int]:
    return list(range(first, first + 10))


def test_it_is_of_one_moment_while_others_write(store: EdgeStore, tmp_path: Path, elsewhere: Path) -> None:
    with Writers(store) as writers:
        for attempt in range(3):
            writers.wait_for(20 * (attempt + 1))
            before = list(writers.acknowledged)
            points = store.snapshot(tmp_path / "index.tar")
            restore(tmp_path / "index.tar", elsewhere, "images", force=attempt > 0)
            with closing(opened(elsewhere)) as again:
                there = [first for first in [*before, *writers.acknowledged] if again.get([first])]
                assert again.count() == points == 199 + 10 * len(set(there)), (
                    "batches are there as a whole, or not at all"
                )
                assert set(before) <= set(there)


def test_an_index_that_is_there_is_replaced_only_by_force(file: Path, elsewhere: Path) -> None:
    with closing(opened(elsewhere)) as there:
        there.apply([upsert(7, 99), Delete(8, 99)])
    with pytest.raises(UsageError, match="--force"):
        restore(file, elsewhere, "images", force=False)
    restore(file, elsewhere, "images", force=True)
    with closing(opened(elsewhere)) as again:
        assert again.versions([7, 8]) == {7: sync(10), 8: sync(10)}
    assert not list(elsewhere.glob("*.restoring"))


def test_a_store_that_is_open_is_not_replaced(store: EdgeStore, file: Path, path: Path) -> None:
    with pytest.raises(StoreBusy):
        restore(file, path, "images", force=True)
    assert store.count() == 199


def test_a_snapshot_of_another_collection_is_refused(file: Path, elsewhere: Path) -> None:
    with pytest.raises(UsageError, match="a snapshot of images, not of brands"):
        restore(file, elsewhere, "brands", force=False)
    assert [entry.name for entry in elsewhere.iterdir()] == ["brands.lock"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "index.tar"
    with closing(opened(tmp_path_factory.mktemp("data"))) as store:
        store.apply([upsert(i, 1) for i in range(10)])
        store.snapshot(file)
    return file


# --- damage ------------------------------------------------------------------------------------------------------------------


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def written(file: Path, contents: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def flipped(file: Path) -> None:
    contents = members(file)
    [name, *_] = (name for name, data in contents.items() if "segments" in name and len(data) > 1000)
    data = bytearray(contents[name])
    data[500] ^= 1
    written(file, contents | {name: bytes(data)})


def lacking(file: Path) -> None:
    contents = members(file)
    del contents["tombstones"]
    written(file, contents)


def of_another_form(file: Path) -> None:
    contents = members(file)
    manifest = json.loads(contents[MANIFEST]) | {"format": 2}
    written(file, contents | {MANIFEST: json.dumps(manifest).encode()})


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is damaged": flipped,
    "tombstones is missing": lacking,
    "strange is not in its list": lambda file: written(file, members(file) | {"strange": b""}),
    "number 2, this program knows 1": of_another_form,
    "no whole snapshot": cut,
    "no manifest": lambda file: written(file, {"strange": b""}),
    "outside the destination": lambda file: written(file, members(file) | {"../strange": b"x"}),
    "truncated header": lambda file: file.write_bytes(b"hello"),
    "No such file": lambda file: file.unlink(),
}


@pytest.mark.parametrize("why", DAMAGES)
def test_what_is_no_whole_snapshot_changes_nothing(packed: Path, tmp_path: Path, elsewhere: Path, why: str) -> None:
    file = Path(shutil.copy(packed, tmp_path))
    with closing(opened(elsewhere)) as there:
        there.apply([upsert(7, 99)])
    DAMAGES[why](file)
    with pytest.raises(PixtailError, match=why):
        restore(file, elsewhere, "images", force=True)
    with closing(opened(elsewhere)) as again:
        assert (again.count(), again.versions([7])) == (1, {7: sync(99)})
    assert not (elsewhere.parent / "strange").exists()
    assert not list(elsewhere.glob("*.restoring"))


def test_a_disk_without_room_is_said_before_it_is_full(
    store: EdgeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sink.edge_snapshot.MARGIN_BYTES", 1 << 60)
    with pytest.raises(StoreUnreachable, match="is full"):
        store.snapshot(tmp_path / "index.tar")
    assert not list(tmp_path.glob("index*"))
    assert store.apply([upsert(1, 20)]).written == 1


# --- the commands ------------------------------------------------------------------------------------------------------------


def test_the_process_that_has_the_store_open_is_asked(path: Path, elsewhere: Path, tmp_path: Path) -> None:
    api = Api(port=free_port(), token=SecretStr("s3cret"))
    site, port = Settings(qdrant=Qdrant(path=path), api=api), api.port
    world, file = World(settings=site), tmp_path / "index.tar"
    with closing(opened(path, api_address=f"http://127.0.0.1:{port}")) as store:
        world.store = store  # type: ignore[assignment]
        store.apply([upsert(1, 1), upsert(2, 1)])
        with serving(world, port):
            with pytest.raises(PixtailError, match=r"api\.token"):
                snapshot_command(Settings(qdrant=Qdrant(path=path)), file, force=False)
            made = snapshot_command(site, file, force=False)
        assert (made["points"], made["bytes"]) == (2, file.stat().st_size)
        assert store.apply([upsert(3, 1)]).written == 1
    assert not list(path.glob("*.snapshot*")), "it was taken away"
    assert restore_command(Settings(qdrant=Qdrant(path=elsewhere)), file, force=False)["points"] == 2
    with closing(opened(elsewhere)) as again:
        assert again.count() == 2


def test_a_file_that_is_there_is_kept(path: Path, file: Path) -> None:
    site, old = Settings(qdrant=Qdrant(path=path)), file.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        snapshot_command(site, file, force=False)
    with pytest.raises(UsageError, match="no folder"):
        snapshot_command(site, file.parent / "nowhere" / "index.tar", force=False)
    assert file.read_bytes() == old


def test_a_server_is_left_to_its_own_snapshots(tmp_path: Path) -> None:
    server = Settings(qdrant=Qdrant(url="http://127.0.0.1:1"))
    with pytest.raises(UsageError, match="snapshots that a Qdrant server makes itself"):
        snapshot_command(server, tmp_path / "index.tar", force=False)
    with pytest.raises(UsageError, match="Qdrant server"):
        restore_command(server, tmp_path / "index.tar", force=False)
