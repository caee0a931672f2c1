"""Back-fills with real servers: what is sent, what waits, what pauses, and what never stops the listener."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ingest.backfill import Request
from ingest.backfill import to_json as request_to_json
from ingest.position import Position, State, to_json
from ingest.selection import Selection, selected
from pixtail.app import backfill as command
from pixtail.app.backfill import Outcome
from pixtail.bus.producer import TransactionalProducer
from pixtail.bus.requests import StateWatch, send_request
from pixtail.bus.state import state_record
from pixtail.bus.topics import ensure_topics
from pixtail.core.changes import Change
from pixtail.core.errors import UsageError
from pixtail.core.lifecycle import Stop
from pixtail.servers.kafka import KafkaServer
from pixtail.servers.sql import SqlServer
from tests.integration.listener_kit import Crash, Listening, Source, crashing, wait_for

IMAGES = "CREATE TABLE images (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, file_path VARCHAR(200), n INT, category VARCHAR(9))"
ROWS = 3000  # a back-fill in small chunks takes seconds, however quick the machine
SMALL = 3  # so many rows at a time take a while


class Asking:
    """`pixtail backfill` in a thread."""

    def __init__(self, source: Source, chosen: Selection, chunk_rows: int = 4000, restart: bool = False) -> None:
        self.stop_wish = Stop()
        self.outcome: Outcome | None = None
        self.failure: BaseException | None = None
        self._output = io.StringIO()
        self._arguments = (source.settings, chosen, chunk_rows, restart, Console(file=self._output, width=200))
        self._thread = threading.Thread(target=self._run, name="test-backfill")

    def _run(self) -> None:
        try:
            self.outcome = command.backfill(*self._arguments, self.stop_wish)
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.failure = error

    def start(self) -> Asking:
        self._thread.start()
        return self

    @property
    def text(self) -> str:
        return self._output.getvalue()

    def ended(self) -> Outcome:
        """How it ended."""
        self._thread.join(30)
        assert not self._thread.is_alive(), f"the command still runs: {self.text}"
        if self.failure is not None:
            raise self.failure
        assert self.outcome is not None
        return self.outcome

    def stopped(self) -> Outcome:
        self.stop_wish.set()
        return self.ended()


@contextmanager
def asking(source: Source, chosen: Selection, **options: Any) -> Iterator[Asking]:
    """A command that is stopped, if it has not ended."""
    running = Asking(source, chosen, **options).start()
    try:
        yield running
    finally:
        running.stop_wish.set()
        running._thread.join(30)


def asked(source: Source, chosen: Selection, **options: Any) -> Outcome:
    """A command run to its end."""
    return Asking(source, chosen, **options).start().ended()


def made(server: SqlServer, kafka: KafkaServer, name: str, rows: list[str]) -> Source:
    """A source whose rows the listener has not seen yet."""
    source = Source(server, kafka, name)
    source.sql(IMAGES, f"INSERT INTO images VALUES {', '.join(rows)}")
    return source


FEW = ["(1, 'a', 1, 'car')", "(2, 'b', NULL, 'car')", "(3, 'c', NULL, 'dog')", "(4, 'd', 4, 'car')"]


@pytest.fixture
def source(mysql: SqlServer, kafka: KafkaServer, unique: str) -> Source:
    """Four rows."""
    return made(mysql, kafka, unique, FEW)


@pytest.fixture
def large(mysql: SqlServer, kafka: KafkaServer, unique: str) -> Source:
    """`ROWS` rows."""
    return made(mysql, kafka, unique, [f"({n}, 'p', {n}, 'car')" for n in range(1, ROWS + 1)])


def snapshot_done(source: Source) -> State | None:
    state = source.saved()
    return state if state is not None and state.snapshot is None else None


def rows_sent(source: Source) -> int:
    """By the back-fill that runs."""
    state = source.saved()
    return state.snapshot.rows if state is not None and state.snapshot is not None and state.snapshot.selection else 0


def again(source: Source) -> list[Change]:
    """What back-fills sent."""
    return [entry for entry in source.entries() if isinstance(entry, Change) and entry.source.snapshot == "incremental"]


def keys(changes: list[Change]) -> list[Any]:
    return [change.key["id"] for change in changes]


# What is sent


def test_rows_are_sent_again_as_reads_that_are_newer_than_all_before(
    database: SqlServer, kafka: KafkaServer, unique: str
) -> None:
    source = made(database, kafka, unique, FEW)
    with source.listening():
        before = source.wait_for_entries(4)
        assert asked(source, Selection()) == Outcome(4, 4, done=True)
        sent = again(source)
    assert keys(sent) == [1, 2, 3, 4]
    assert [(change.op, change.before, (change.after or {})["n"]) for change in sent] == [
        ("r", None, 1),
        ("r", None, None),
        ("r", None, None),
        ("r", None, 4),
    ]
    assert min(change.seq for change in sent) > max(entry.seq for entry in before)


OPTIONS: list[tuple[dict[str, Any], list[int]]] = [
    ({"where": ["category=CAR"], "limit": 2}, [1, 2]),  # the column's collation ignores case
    ({"where": ["n=NULL", "category=car"]}, [2]),
    ({"ids": ["4", "1", "4", "99"]}, [1, 4]),
]


def test_options_choose_the_rows(source: Source) -> None:
    with source.listening():
        for options, sent in OPTIONS:
            chosen = command.selection(("id",), **{"where": [], "ids": [], "ids_file": None, "limit": None, **options})
            assert command.count(source.settings, chosen) == len(sent)
            before = len(again(source))
            assert asked(source, chosen) == Outcome(len(sent), len(sent), done=True)
            assert keys(again(source)[before:]) == sent


def test_an_id_of_several_columns_is_written_with_commas(
    mariadb: SqlServer, kafka: KafkaServer, unique: str, tmp_path: Path
) -> None:
    source = Source(mariadb, kafka, unique, key=["shelf", "colour"])
    source.sql("CREATE TABLE images (shelf INT, colour VARCHAR(9), file_path VARCHAR(9), PRIMARY KEY (shelf, colour))")
    source.sql("INSERT INTO images VALUES (7, 'blue', 'a'), (7, 'red', 'b'), (8, 'blue', 'c'), (8, 'a,\"b', 'd')")
    file = tmp_path / "ids"
    file.write_text('\ufeff8, blue\n\n8,"a,""b"\n', encoding="utf-8")
    chosen = command.selection(source.settings.table.key_columns, [], ["7,blue"], file, None)
    with source.listening():
        assert asked(source, chosen).done
        assert {tuple(change.key.values()) for change in again(source)} == {(7, "blue"), (8, "blue"), (8, 'a,"b')}


def test_what_does_not_fit_the_table_is_refused_before_anything_is_asked(source: Source) -> None:
    for chosen in (
        selected({"colour": "red"}),
        selected(ids=["abc"]),
        selected(ids=[["1", "2"]]),
        selected({"n": "many"}),
    ):
        with pytest.raises(UsageError):
            asked(source, chosen)
    with StateWatchOf(source) as watch:
        assert watch.request is None


class StateWatchOf(StateWatch):
    """What stands in the state topic, as a context manager."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.settings.kafka, source.topics)

    def __enter__(self) -> StateWatchOf:
        self.open()
        self.look()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# Waiting


def test_without_a_listener_it_says_so_and_is_done_when_one_starts(source: Source) -> None:
    with asking(source, selected(ids=["3"])) as waiting:
        wait_for(lambda: "No listener runs" in waiting.text, "the hint")
        with source.listening():
            assert waiting.ended() == Outcome(1, 1, done=True)
            assert source.story() == [*(("r", n) for n in (1, 2, 3, 4)), ("r", 3)]


def test_the_first_snapshot_goes_first(large: Source) -> None:
    with large.listening(chunk_rows=SMALL), asking(large, selected(ids=["1"])) as waiting:
        wait_for(lambda: "Waiting for the snapshot" in waiting.text, "a word about the snapshot")
        assert waiting.ended().done
    assert [n for _, n in large.story()] == [*range(1, ROWS + 1), 1]


def test_a_second_back_fill_waits_in_line_and_one_like_the_first_joins_it(large: Source) -> None:
    with large.listening():
        wait_for(lambda: snapshot_done(large), "the end of the snapshot")
        with asking(large, selected({"category": "car"}), chunk_rows=SMALL) as first:
            wait_for(lambda: rows_sent(large), "the first rows")
            with asking(large, selected(ids=["1"])) as second, asking(large, selected({"category": "car"})) as same:
                wait_for(
                    lambda: "Waiting for the back-fill of category=car" in second.text, "a word about the first one"
                )
                assert rows_sent(large) < ROWS
                assert second.ended() == Outcome(1, 1, done=True)
                assert first.ended() == same.ended() == Outcome(ROWS, ROWS, done=True)
    assert keys(again(large)) == [*range(1, ROWS + 1), 1]


# Pausing, going on


def test_a_paused_one_goes_on_behind_its_last_chunk(large: Source) -> None:
    chosen = selected({"category": "car"})
    with large.listening():
        wait_for(lambda: snapshot_done(large), "the end of the snapshot")
        with asking(large, chosen, chunk_rows=SMALL) as first:
            wait_for(lambda: rows_sent(large) > 100, "some rows")
            paused = first.stopped()
        assert 100 < paused.rows < ROWS
        assert not paused.done
        assert "The same command goes on with it" in first.text
        assert keys(again(large)) == list(range(1, paused.rows + 1))
        with pytest.raises(UsageError, match=rf"category=car is paused after {paused.rows:,} of {ROWS:,} rows"):
            asked(large, selected(ids=["1"]))
    with large.listening():  # another life of the listener
        assert asked(large, chosen) == Outcome(ROWS, ROWS, done=True)
    assert keys(again(large)) == list(range(1, ROWS + 1))


def test_restart_begins_again_and_forgets_what_is_paused(large: Source) -> None:
    chosen = selected({"category": "car"})
    with large.listening():
        wait_for(lambda: snapshot_done(large), "the end of the snapshot")
        for times in (1, 2):
            with asking(large, chosen, chunk_rows=SMALL, restart=True) as running:
                wait_for(lambda times=times: keys(again(large)).count(1) == times, "the first row")
                paused = running.stopped()
        assert asked(large, selected(ids=["7"]), restart=True) == Outcome(1, 1, done=True)
        assert snapshot_done(large)
        assert keys(again(large))[-2:] == [paused.rows, 7]


def test_stopped_before_a_listener_took_it_up_it_is_withdrawn(source: Source) -> None:
    with asking(source, Selection()) as waiting:
        wait_for(lambda: "No listener runs" in waiting.text, "the hint")
        waiting.stop_wish.set()
        with source.listening():
            assert waiting.ended() == Outcome(0, 4, done=False)
            wait_for(lambda: (state := source.saved()) and state.request, "the listener has read it")
            assert snapshot_done(source)
            assert again(source) == []


def test_a_crash_of_the_listener_repeats_nothing_and_the_command_waits_for_its_next_life(large: Source) -> None:
    with large.listening():
        wait_for(lambda: snapshot_done(large), "the end of the snapshot")
    with asking(large, Selection(), chunk_rows=SMALL) as waiting:
        first = Listening(large.settings, make_producer=crashing(50, committed=True))
        first.start()
        assert isinstance(first.wait_until_ended(), Crash)
        assert 0 < rows_sent(large) < ROWS
        with large.listening():
            assert waiting.ended() == Outcome(ROWS, ROWS, done=True)
    assert keys(again(large)) == list(range(1, ROWS + 1))


# What never stops the listener


def test_requests_of_no_form_or_of_another_version_are_passed_over(source: Source) -> None:
    ensure_topics(source.settings.kafka, source.topics)
    strange: list[dict[str, Any]] = [{}, {"id": 1}, {**request_to_json(Request("a", Selection())), "order": "by n"}]
    for body in strange:
        send_request(source.settings.kafka, source.topics, body)
    with source.listening():
        source.wait_for_entries(4)
        for body in strange:
            send_request(source.settings.kafka, source.topics, body)
        assert asked(source, selected(ids=["2"])).done
    assert [n for _, n in source.story()] == [1, 2, 3, 4, 2]


def test_a_request_that_does_not_fit_the_table_is_set_aside(source: Source) -> None:
    ensure_topics(source.settings.kafka, source.topics)
    body = {**request_to_json(Request("misfit", Selection())), "selection": {"where": {"colour": "red"}}}
    send_request(source.settings.kafka, source.topics, body)
    with source.listening():
        state = wait_for(
            lambda: (state := source.saved()) and state.request and state.snapshot and state, "a taken request"
        )
        wait_for(lambda: (state := source.saved()) and state.snapshot and state.snapshot.paused, "a paused back-fill")
        assert state.request == "misfit"
        source.sql("INSERT INTO images (id) VALUES (5)")
        source.wait_for_entries(5)
        assert asked(source, selected(ids=["5"]), restart=True).done
    assert source.story()[-2:] == [("c", 5), ("r", 5)]


def test_a_column_dropped_in_the_middle_pauses_the_back_fill_that_asks_for_it(large: Source) -> None:
    with large.listening():
        wait_for(lambda: snapshot_done(large), "the end of the snapshot")
        with asking(large, selected({"category": "car"}), chunk_rows=SMALL) as running:
            wait_for(lambda: rows_sent(large) > 30, "some rows")
            large.sql("ALTER TABLE images DROP COLUMN category", "INSERT INTO images (id) VALUES (9999)")
            assert not running.ended().done
            assert "the listener's log says why" in running.text
        wait_for(lambda: ("c", 9999) in large.story(), "the insert")


def test_an_old_request_is_not_done_again_after_the_position_was_lost(source: Source) -> None:
    with source.listening():
        assert asked(source, selected(ids=["2"])).done
    state = source.saved()
    assert state is not None
    gtid = "7-1-5" if source.server.name == "mariadb" else "00000000-0000-0000-0000-000000000001:1-5"
    lost = replace(state, position=Position(gtid, "binlog.000001", 4))
    with closing(TransactionalProducer(source.settings.kafka, source.name)) as producer:
        producer.open()
        record = state_record(source.topics.source, to_json(lost))
        producer.write({(source.topics.state, 0): [(record.key, record.value, None)]})
    for _ in range(2):
        with source.listening(on_lost_position="snapshot"):
            wait_for(lambda: (now := snapshot_done(source)) and now.position.gtid != gtid, "a new snapshot")
            source.sql("INSERT INTO images (file_path) VALUES ('new')")
            wait_for(lambda: source.story()[-1][0] == "c", "the insert")
    assert keys(again(source)) == [2]
