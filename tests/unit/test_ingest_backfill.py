"""Who asks for a back-fill, what the listener makes of it, and what waits for what: whatever the interleaving, each is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.backfill import Request, Stage, acted_on, from_json, must_ask, stage, to_json
from ingest.position import Position, Snapshot, State
from ingest.selection import MAX_IDS, Selection, selected

CARS, DOGS = selected({"category": "car"}), selected({"category": "dog"})
IDLE = State(Position(None, "binlog.000001", 4), 7)
FIRST = replace(IDLE, snapshot=Snapshot((3,), 3, about=9))
CARS_RUN = replace(IDLE, snapshot=Snapshot((5,), 5, CARS, 10, 1), request="before")
CARS_PAUSED = replace(CARS_RUN, snapshot=Snapshot((5,), 5, CARS, 10, 1, paused=True))
NOW_MS = 99


def of_cars(**more: Any) -> Request:
    return Request("new", CARS, about=12, **more)


# What the listener makes of a request


@pytest.mark.parametrize(
    ("state", "request_", "snapshot"),
    [
        (IDLE, of_cars(chunk_rows=50), Snapshot(None, 0, CARS, 12, NOW_MS, chunk_rows=50)),
        (CARS_RUN, of_cars(chunk_rows=50), Snapshot((5,), 5, CARS, 10, 1, chunk_rows=50)),
        (CARS_PAUSED, of_cars(), Snapshot((5,), 5, CARS, 10, 1)),
        (CARS_PAUSED, of_cars(restart=True), Snapshot(None, 0, CARS, 12, NOW_MS)),
        (CARS_RUN, of_cars(restart=True), Snapshot(None, 0, CARS, 12, NOW_MS)),
        (CARS_RUN, of_cars(pause=True), CARS_PAUSED.snapshot),
        (CARS_PAUSED, Request("new", DOGS, about=3), Snapshot(None, 0, DOGS, 3, NOW_MS)),
        # A pause of what does not run: it withdraws a request that was not taken up yet.
        (IDLE, of_cars(pause=True), None),
        (FIRST, of_cars(pause=True), FIRST.snapshot),
        (CARS_RUN, Request("new", DOGS, pause=True), CARS_RUN.snapshot),
    ],
)
def test_the_listener_acts_on_a_request(state: State, request_: Request, snapshot: Snapshot | None) -> None:
    assert acted_on(request_, state, NOW_MS) == replace(state, snapshot=snapshot, request="new")


@pytest.mark.parametrize("state", [FIRST, CARS_RUN])
def test_the_first_snapshot_and_another_back_fill_go_first(state: State) -> None:
    for restart in (False, True):
        assert acted_on(Request("new", DOGS, restart=restart), state, NOW_MS) is None


def test_a_request_is_acted_on_once() -> None:
    assert acted_on(of_cars(), replace(IDLE, request="new"), NOW_MS) is None


# Its form


@pytest.mark.parametrize(
    "request_",
    [Request("a", Selection()), Request("b", selected({"n": "null", "m": 1}, [["1", "x"], "2"], 5), True, 7, 9, True)],
)
def test_a_request_survives_the_topic(request_: Request) -> None:
    assert from_json(orjson.loads(orjson.dumps(to_json(request_)))) == request_


GOOD = to_json(Request("a", CARS))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": "a"},
        {"selection": {}},
        {**GOOD, "id": 5},
        {**GOOD, "selection": None},
        {**GOOD, "selection": []},
        {**GOOD, "selection": {"where": 7}},
        {**GOOD, "selection": {"where": {"category": ["car", "dog"]}}},
        {**GOOD, "selection": {"ids": [[{}]]}},
        {**GOOD, "selection": {"ids": [[n] for n in range(MAX_IDS + 1)]}},
        {**GOOD, "selection": {"limit": -1}},
        {**GOOD, "selection": {"limit": "few"}},
        {**GOOD, "selection": {"where": {}, "like": "a later version's"}},
        {**GOOD, "chunk_rows": -1},
        {**GOOD, "chunk_rows": "many"},
        {**GOOD, "pause": "perhaps"},
        {**GOOD, "order": "a later version's"},
    ],
)
def test_what_this_version_does_not_write_is_no_request(body: dict[str, Any]) -> None:
    assert from_json(body) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@given(st.dictionaries(st.sampled_from([*GOOD, "x"]), JSON))
def test_no_request_however_strange_raises(body: dict[str, Any]) -> None:
    from_json(body)


# What the command makes of the listener's state


@pytest.mark.parametrize(
    ("state", "asked", "at"),
    [
        (None, None, Stage.FREE),
        (IDLE, None, Stage.FREE),
        (IDLE, of_cars(), Stage.ASKED),
        (None, of_cars(), Stage.ASKED),
        (FIRST, None, Stage.BEHIND),
        (FIRST, of_cars(), Stage.BEHIND),
        (CARS_RUN, None, Stage.RUNNING),
        (CARS_RUN, of_cars(), Stage.ASKED),
        (replace(CARS_RUN, request="new"), of_cars(), Stage.RUNNING),
        (CARS_PAUSED, None, Stage.PAUSED),
        (CARS_PAUSED, of_cars(), Stage.ASKED),
        (replace(CARS_PAUSED, request="new"), of_cars(), Stage.PAUSED),
        (replace(IDLE, request="new"), of_cars(), Stage.DONE),
        (replace(FIRST, request="new"), of_cars(), Stage.BEHIND),
        (replace(IDLE, snapshot=Snapshot(selection=DOGS)), of_cars(), Stage.BEHIND),
        (replace(IDLE, snapshot=Snapshot(selection=DOGS, paused=True)), None, Stage.FREE),
        # Another command's request stands in the one place there is.
        (IDLE, Request("other", DOGS), Stage.BEHIND),
        (IDLE, Request("other", DOGS, pause=True), Stage.FREE),
        (replace(IDLE, request="other"), Request("other", DOGS), Stage.FREE),
    ],
)
def test_a_command_knows_where_its_back_fill_stands(state: State | None, asked: Request | None, at: Stage) -> None:
    assert stage(of_cars(), state, asked) is at


@dataclass
class Command:
    """Looks, and a while later writes: between the two the world may have changed."""

    request: Request
    at: Stage | None = None
    sent: bool = False
    started: bool = False
    done: bool = False


class World:
    """Commands that want a back-fill each, one slot for requests, and a listener that sends two rows."""

    def __init__(self, selections: list[Selection], state: State) -> None:
        self.commands = [Command(Request(f"r{n}", chosen)) for n, chosen in enumerate(selections)]
        self.state = state
        self.slot: Request | None = None
        self.sent: list[Selection] = []  # whose rows are sent

    def look(self, command: Command) -> None:
        command.at = stage(command.request, self.state, self.slot)

    def act(self, command: Command) -> None:
        at, command.at = command.at, None
        if at is None or command.done:
            return
        if must_ask(at, command.request, sent=command.sent, started=command.started):
            self.slot, command.sent = command.request, True
        elif at in (Stage.DONE, Stage.FREE):
            command.done = True
        elif at is Stage.RUNNING:
            command.started = True

    def listener_looks(self) -> None:
        if self.slot is not None:
            self.state = acted_on(self.slot, self.state, 1) or self.state

    def listener_sends(self) -> None:
        running = self.state.snapshot
        if running is None:
            return
        running = replace(running, rows=running.rows + 1) if running.rows < 2 else None
        if running is None and self.state.snapshot and self.state.snapshot.selection is not None:
            self.sent.append(self.state.snapshot.selection)
        self.state = replace(self.state, snapshot=running)

    def step(self, number: int) -> None:
        """Odd and even numbers of the commands' range: look and act; beyond it the listener."""
        command, kind = divmod(number, 2)
        if command < len(self.commands):
            (self.look, self.act)[kind](self.commands[command])
        else:
            (self.listener_looks, self.listener_sends)[kind]()


@given(
    selections=st.lists(st.sampled_from([CARS, DOGS, Selection()]), min_size=1, max_size=3),
    first=st.booleans(),
    steps=st.lists(st.integers(0, 7), max_size=80),
)
def test_whoever_asks_and_whenever_each_back_fill_is_done(
    selections: list[Selection], first: bool, steps: list[int]
) -> None:
    world = World(selections, FIRST if first else IDLE)
    for number in steps:
        world.step(number % (2 * len(selections) + 2))
    for _ in range(40):  # nobody sleeps for ever
        for number in range(2 * len(selections) + 2):
            world.step(number)
    assert all(command.done for command in world.commands)
    assert {str(chosen) for chosen in world.sent} == {str(chosen) for chosen in selections}
