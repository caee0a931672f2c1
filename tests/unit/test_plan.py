"""What is decided about changes: collapse, decide, and the promise both keep together."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.plan import Encode, Nothing, PayloadOnly, Remove, Wanted, collapse, decide, same_picture
from pixtail.core.changes import TRUNCATE_KEY, Change, Entry, Malformed, Op, Source, Tombstone, key_bytes
from pixtail.core.points import PictureFacts, Sync

SOURCE = Source("app", "images")
MODEL = "m1"


@dataclass(frozen=True)
class Read:
    entry: Entry


def change(number: int, seq: int, ref: str = "a.jpg", op: Op = Op.UPDATE, title: str = "") -> Change:
    row = {"id": number, "file_path": ref, "title": title}
    return Change(op, {"id": number}, None, None if op is Op.DELETE else row, seq, SOURCE)


def truncate(seq: int) -> Change:
    return Change(Op.TRUNCATE, TRUNCATE_KEY, None, None, seq, SOURCE)


def sync(seq: int, ref: str = "a.jpg", model: str = MODEL, sha256: str = "00") -> Sync:
    return Sync(seq, ref, model, PictureFacts(sha256, 1, 1, "PNG", 1), "")


WANTED = Wanted("a.jpg", {"title": "x"})
GONE = Remove("deleted")


def newest(*entries: Entry) -> list[Entry]:
    return [read.entry for read in collapse([Read(entry) for entry in entries]).newest]


def test_the_newest_seq_of_a_key_wins_in_whatever_order_it_comes() -> None:
    old, new, other = change(1, 5), change(1, 9), change(2, 7)
    assert newest(old, other, new) == [new, other]
    assert newest(new, other, old) == [new, other]


def test_a_tombstone_is_as_good_as_any_change() -> None:
    assert newest(change(1, 5), Tombstone({"id": 1}, 6)) == [Tombstone({"id": 1}, 6)]
    assert newest(Tombstone({"id": 1}, 6), change(1, 7)) == [change(1, 7)]


def test_a_truncate_drops_what_is_older_and_nothing_else() -> None:
    collapsed = collapse([Read(e) for e in (change(1, 5), truncate(6), change(2, 7))])
    assert [read.entry for read in collapsed.newest] == [change(2, 7)]
    assert collapsed.truncate_seq == 6


def test_a_malformed_record_never_displaces_a_readable_one() -> None:
    bad = Malformed(b'{"id":1}', b"?", "not a change event", 9)
    collapsed = collapse([Read(change(1, 5)), Read(bad)])
    assert [read.entry for read in collapsed.newest] == [change(1, 5)]
    assert [read.entry for read in collapsed.malformed] == [bad]


@pytest.mark.parametrize(
    ("wanted", "stored", "decision"),
    [
        (WANTED, None, Encode(WANTED, None)),
        (WANTED, sync(5), PayloadOnly(WANTED, sync(5))),
        (WANTED, sync(5, ref="b.jpg"), Encode(WANTED, sync(5, ref="b.jpg"))),
        (WANTED, sync(5, model="m0"), Encode(WANTED, sync(5, model="m0"))),
        (WANTED, sync(8), Nothing("unchanged")),
        (WANTED, sync(8, model="m0"), Nothing("unchanged")),
        (WANTED, sync(9), Nothing("stale")),
        (GONE, None, GONE),
        (GONE, sync(5), GONE),
        (GONE, sync(8), GONE),
        (GONE, sync(9), Nothing("stale")),
    ],
    ids=[
        "a point that is missing or another program's is encoded",
        "the same picture and model need new columns only",
        "another path is encoded",
        "another model is encoded",
        "the version that is there stays",
        "the version that is there stays, made by another model too: a store takes no equal seq",
        "a newer version stays",
        "a row without a point to have is removed even where nothing is seen",
        "a row without a point to have is removed",
        "a row that stopped matching under new settings is removed in its own version",
        "an old delete does nothing to a newer point",
    ],
)
def test_version_8_of_a_row(wanted: Wanted | Remove, stored: Sync | None, decision: object) -> None:
    assert decide(8, wanted, stored, MODEL) == decision


def test_only_equal_bytes_and_an_equal_model_spare_the_encoding() -> None:
    assert same_picture(sync(1, sha256="ab"), "ab", MODEL)
    assert not same_picture(sync(1, sha256="ab"), "cd", MODEL)
    assert not same_picture(sync(1, sha256="ab", model="m0"), "ab", MODEL)
    assert not same_picture(None, "ab", MODEL)
    assert not same_picture(sync(1, sha256=""), "", MODEL)


@dataclass
class Index:
    """As simple as a store can be: key → (seq, ref, title), each write done only if it is newer."""

    points: dict[bytes, tuple[int, str, str]] = field(default_factory=dict)

    def take(self, window: list[Entry]) -> None:
        collapsed = collapse([Read(entry) for entry in window])
        self.points = {k: p for k, p in self.points.items() if p[0] >= collapsed.truncate_seq}
        for entry in (read.entry for read in collapsed.newest):
            assert isinstance(entry, Change | Tombstone)
            self._apply(key_bytes(entry.key), entry)

    def _apply(self, key: bytes, entry: Change | Tombstone) -> None:
        row = entry.after if isinstance(entry, Change) else None
        wanted = Remove("deleted") if row is None else Wanted(row["file_path"], {"title": row["title"]})
        stored = self.points.get(key)
        match decide(entry.seq, wanted, stored and sync(stored[0], stored[1]), MODEL):
            case Encode(asked):
                self.points[key] = (entry.seq, asked.ref, asked.payload["title"])
            case PayloadOnly(asked):
                assert stored is not None
                self.points[key] = (entry.seq, stored[1], asked.payload["title"])
            case Remove():
                self.points.pop(key, None)
            case Nothing():
                pass


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """What a listener writes: seqs rise over the whole table."""
    kinds = st.tuples(st.integers(1, 3), st.sampled_from("cudt"), st.sampled_from(["a.jpg", "b.jpg"]))
    history: list[Entry] = []
    for seq, (number, kind, ref) in enumerate(draw(st.lists(kinds, max_size=14)), start=1):
        if kind == "t":
            history.append(truncate(seq))
        elif kind == "d":
            history += [change(number, seq, op=Op.DELETE), Tombstone({"id": number}, seq)]
        else:
            history.append(change(number, seq, ref, Op(kind), title=str(seq)))
    return history


def final_state(history: list[Entry]) -> dict[bytes, tuple[int, str, str]]:
    state: dict[bytes, tuple[int, str, str]] = {}
    for entry in history:
        row = entry.after if isinstance(entry, Change) else None
        if isinstance(entry, Change) and entry.op is Op.TRUNCATE:
            state = {}
        elif row is None:
            state.pop(key_bytes(entry.key), None)  # type: ignore[union-attr]
        else:
            state[key_bytes(entry.key)] = (entry.seq, row["file_path"], row["title"])  # type: ignore[union-attr]
    return state


@given(histories(), st.data())
def test_however_the_topic_is_cut_into_windows_and_replayed_the_index_ends_in_the_newest_state(
    history: list[Entry], data: st.DataObject
) -> None:
    """Windows of any size; after any of them a crash may set the consumer back by any distance. The end is read to the last record."""
    index, position = Index(), 0
    for _ in range(data.draw(st.integers(0, 6), label="windows before the last")):
        end = data.draw(st.integers(position, len(history)), label="window's end")
        index.take(history[position:end])
        position = data.draw(st.integers(0, end), label="next start")
    index.take(history[position:])
    assert index.points == final_state(history)
