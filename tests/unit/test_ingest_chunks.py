"""Chunks without a server: conditions, selections, places, progress."""

from __future__ import annotations

import sqlite3

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import conditions
from ingest.chunks import key_columns, next_rows, select, where
from ingest.position import Place, Position, Snapshot, State, from_json, to_json
from ingest.progress import progress
from ingest.rows import TableColumn
from ingest.selection import EVERYTHING, MAX_IDS, Selection, selected
from ingest.tables import Table
from ingest.textrows import Found
from pixtail.core.errors import SourceError, UsageError

INT = TableColumn("a", "bigint")
TEXT = TableColumn("b", "varchar", charset="utf8mb4", collation="utf8mb4_bin")
BYTES = TableColumn("c", "binary")
PRICE = TableColumn("price", "decimal")
DAY = TableColumn("day", "datetime")
DOCUMENT = TableColumn("doc", "json", json=True)
TABLE = Table("shop", "images", (INT, TEXT, BYTES, PRICE, DAY, DOCUMENT), ("a", "b", "c"))
KEYS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))


@given(st.lists(KEYS, unique=True), KEYS)
def test_the_rows_behind_a_key_are_those_that_sort_behind_it(
    keys: list[tuple[int, int, int]], after: tuple[int, int, int]
) -> None:
    columns = [TableColumn(name, "int") for name in "abc"]
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE images (a INT, b INT, c INT)")
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", keys)
        found = database.execute(f"SELECT * FROM images WHERE {conditions.behind(columns, after)} ORDER BY a, b, c")
        assert found.fetchall() == sorted(key for key in keys if key > after)
    database.close()


def test_values_of_keys_become_literals_that_the_server_compares_as_what_they_are() -> None:
    assert conditions.behind([INT], (2**64 - 1,)) == "((`a` > 18446744073709551615))"
    assert conditions.behind([TEXT], ("🚲'".encode(),)) == "((`b` > _utf8mb4 X'f09f9ab227'))"
    assert conditions.behind([TEXT], ("it's",)) == "((`b` > _utf8mb4 X'69742773'))", "as earlier versions saved it"
    assert conditions.behind([BYTES], (b"\0\xff",)) == "((`c` > X'00ff'))"
    assert conditions.behind([PRICE], ("-12.50",)) == "((`price` > -12.50))"


@pytest.mark.parametrize(
    ("column", "raw", "value"),
    [
        (INT, b"42", 42),
        (TEXT, b"\xc3\xa9", b"\xc3\xa9"),
        (BYTES, b"\0", b"\0"),
        (PRICE, b"1.50", "1.50"),
        (DAY, b"2024-01-02", "2024-01-02"),
    ],
)
def test_a_key_goes_on_as_the_server_sent_it(column: TableColumn, raw: bytes, value: object) -> None:
    assert conditions.key_value(column, raw) == value


@pytest.mark.parametrize(
    ("name", "value", "condition"),
    [
        ("a", "7", "`a` = 7"),
        ("a", True, "`a` = 1"),
        ("price", 1.5, "`price` = 1.5"),
        ("b", "x", "`b` = _utf8mb4 X'78'"),
        ("b", 7, "`b` = _utf8mb4 X'37'"),
        ("c", "AP8=", "`c` = X'00ff'"),
        ("day", "2024-01-02T03:04:05", "`day` = _utf8mb4 X'323032342d30312d30322030333a30343a3035'"),
        ("doc", "null", "`doc` IS NULL"),
    ],
)
def test_a_filter_compares_by_the_columns_type(name: str, value: str | float | bool, condition: str) -> None:
    assert conditions.having(TABLE, name, value) == condition


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "abc"),
        ("a", "1 OR 1"),
        ("a", 1.5),
        ("price", "nan"),
        ("price", "1e999"),
        ("c", "?"),
        ("day", "' OR '"),
        ("doc", "{}"),
        ("z", 1),
    ],
)
def test_a_filter_that_does_not_fit_its_column_is_refused(name: str, value: str | float) -> None:
    with pytest.raises(UsageError) as caught:
        conditions.having(TABLE, name, value)
    assert (
        str(value) not in str(caught.value).replace("price", "").replace(name, "").replace("bigint", "") or value == 1
    )


def test_ids_are_one_list_or_one_condition_for_each_key() -> None:
    assert conditions.having_keys([INT], [(1,), ("2",)]) == "`a` IN (1, 2)"
    both = conditions.having_keys([INT, TEXT], [(1, "x"), (2, "y")])
    assert both == "((`a` = 1 AND `b` = _utf8mb4 X'78') OR (`a` = 2 AND `b` = _utf8mb4 X'79'))"
    with pytest.raises(UsageError, match=r"\(a, b\)"):
        conditions.having_keys([INT, TEXT], [(1,)])


def test_a_selection_reads_in_key_order_and_leaves_the_index_open_only_to_a_filter() -> None:
    key = key_columns(TABLE, ("b", "a"))
    everything = select(TABLE, key, EVERYTHING, None, 5)
    assert everything.endswith("FROM `shop`.`images` FORCE INDEX (PRIMARY) WHERE TRUE ORDER BY `b`, `a` LIMIT 5")
    filtered = select(TABLE, key, selected({"a": 1}), (b"x", 2), 5)
    assert "FORCE" not in filtered
    assert where(TABLE, key, selected({"a": 1}), (b"x", 2)).startswith("`a` = 1 AND ((`b` > ")


def test_a_key_column_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="no column gone"):
        key_columns(TABLE, ("a", "gone"))


def test_a_selections_ids_are_keys_each_once() -> None:
    assert selected(ids=[3, 1, 3, [1]]).ids == ((3,), (1,))
    assert selected(ids=[[1, "x"], ("1", "x")]).ids == ((1, "x"), ("1", "x"))
    with pytest.raises(UsageError, match="too many"):
        selected(ids=range(MAX_IDS + 1))
    with pytest.raises(UsageError, match="negative"):
        selected(limit=-1)


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(),
        Snapshot((7, b"\xff", "2024-01-02"), 3, None, 10, 1_700_000_000_000, "a int, b varchar utf8mb4_bin"),
        Snapshot((7,), 3, Selection({"status": "null", "n": 1}, ((1, "x"), (2, "y")), 100)),
    ],
)
def test_a_snapshot_survives_the_state_topic(snapshot: Snapshot) -> None:
    state = State(Position(None, "binlog.000001", 4), 7, snapshot)
    assert from_json(orjson.loads(orjson.dumps(to_json(state)))) == state


@pytest.mark.parametrize(("saved", "after"), [(5, 5), ("x", "x"), ({"hex": "00ff"}, b"\0\xff"), (None, None)])
def test_a_snapshot_of_an_earlier_version_is_read(saved: object, after: object) -> None:
    position = {"gtid": None, "file": "binlog.000001", "pos": 4}
    body = {"position": position, "seq": 7, "snapshot": {"after": saved, "rows": 3}, "unfinished": None}
    assert from_json(body).snapshot == Snapshot(after, 3)  # type: ignore[arg-type]


def test_a_snapshot_begins_again_when_the_order_of_its_rows_has_changed() -> None:
    half = Snapshot((5,), 5, None, 10, 1, "a int")
    assert half.resumed("a int") == half
    assert half.resumed("a varchar utf8mb4_bin") == Snapshot(None, 0, None, 10, 1, "a varchar utf8mb4_bin")
    assert Snapshot(5, 5).resumed("a int").after == 5, "earlier versions did not say"


def test_a_tables_order_is_its_keys_types_and_collations() -> None:
    assert TABLE.order == "a bigint, b varchar utf8mb4_bin, c binary"
    assert Table("d", "t", (TableColumn("id", "int", unsigned=True),), ("id",)).order == "id int unsigned"


def test_places_are_in_the_order_of_the_binlog_beyond_six_digits_too() -> None:
    places = [
        Place("b.000009", 900),
        Place("b.000010", 4),
        Place("b.000010", 10),
        Place("b.999999", 1),
        Place("b.1000000", 4),
    ]
    for i, place in enumerate(places):
        assert [place.reaches(other) for other in places] == [True] * (i + 1) + [False] * (len(places) - i - 1)
    assert Position("", "b.000010", 10).place == places[2]


def test_progress_tells_the_rate_of_this_life_and_the_time_left() -> None:
    assert progress(3000, 4000, 10, rows_before=1000).rows_per_s == 200
    assert progress(3000, 4000, 10, rows_before=1000).left_s == 5
    assert progress(3000, 4000, 10).share == 0.75


def test_progress_never_claims_what_nobody_knows() -> None:
    assert progress(0, 0, 0).left_s is None
    assert progress(10, 0, 1).share is None
    assert progress(500, 400, 1).share == 1
    assert progress(500, 400, 1).left_s == 0, "the estimate was too low"
    assert progress(10, 100, 5, rows_before=10).left_s is None


def found(rows: int, row_bytes: int) -> Found:
    return Found([{}] * rows, [], rows * row_bytes, True)


def test_a_chunk_grows_slowly_up_to_its_bounds_and_shrinks_at_once() -> None:
    assert next_rows(64, found(64, 100), 4000, 8 << 20) == 256
    assert next_rows(1024, found(1024, 100), 4000, 8 << 20) == 4000
    assert next_rows(4000, found(4000, 1 << 20), 4000, 8 << 20) == 8
    assert next_rows(64, found(1, 100 << 20), 4000, 8 << 20) == 1
    assert next_rows(64, found(0, 0), 4000, 8 << 20) == 64
