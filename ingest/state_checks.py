"""What the listener remembers, held against the server it is to go on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ingest import positions
from ingest.gtid import DomainPositions, number_of
from ingest.managed import WEEK_HOURS
from ingest.position import Position, State, from_json
from ingest.sequence import now_ms
from ingest.server_checks import retention_hours
from ingest.subject import Advice, Probe, Subject, attempt
from pixtail.core.checks import Check, skipped
from pixtail.core.errors import SourceError
from pixtail.core.settings import Settings

SEQ_MS_SHIFT = 10  # ingest.sequence: a seq is at least the time it was made at, in units of 1/1024 ms
_AHEAD_MS = 60_000
_HOUR_MS = 3_600_000
NAMES = ("saved state", "saved position", "retention against lag")


def examine(
    settings: Settings, body: dict[str, Any] | None, written_ms: int, clock_ms: Callable[[], int] = now_ms
) -> list[Check]:
    """Looks at the state's `body`, which stood in the topic at `written_ms`. Needs a server that passed its own checks."""
    if body is None:
        first = Check(NAMES[0], True, "none yet: the listener begins with a snapshot")
        return [first, *(Check(name, True, "nothing to hold against it yet") for name in NAMES[1:])]
    subject = Subject(settings, clock_ms)
    probes = _probes(body, written_ms)
    results: list[Check] = []
    try:
        for probe in probes:
            results.append(attempt(probe, subject))
            if not results[-1].ok:
                return [*results, *skipped(NAMES[len(results) :], f"{probe.name} failed")]
    finally:
        subject.close()
    return results


def _probes(body: dict[str, Any], written_ms: int) -> list[Probe]:
    return [
        Probe(NAMES[0], lambda subject: _state(subject, from_json(body), written_ms)),
        Probe(NAMES[1], lambda subject: _position(subject, from_json(body))),
        Probe(NAMES[2], lambda subject: _retention(subject, from_json(body), written_ms)),
    ]


def _state(subject: Subject, state: State, written_ms: int) -> str | Advice:
    now = subject.clock_ms()
    ahead_ms = (state.seq >> SEQ_MS_SHIFT) - now
    if ahead_ms > _AHEAD_MS:
        return Advice(
            f"the last seq was made {ahead_ms // 1000} s after our present time: one of the clocks is wrong; seq goes on from there",
            "timedatectl set-ntp true",
        )
    snapshot = f"; a snapshot is under way, {state.snapshot.rows} rows are written" if state.snapshot else ""
    return f"seq {state.seq}, saved {max(0, now - written_ms) // 1000} s ago{snapshot}"


def _position(subject: Subject, state: State) -> str:
    subject.connect()
    assert subject.connection is not None
    positions.confirm(subject.connection, subject.server, state.position)
    if subject.server.flavour == "mariadb" and state.position.gtid is not None:
        _confirm_not_purged(subject, state.position.gtid)
    return f"the server has what follows {state.position.gtid or f'{state.position.file}:{state.position.pos}'}"


def _confirm_not_purged(subject: Subject, gtid: str) -> None:
    """MariaDB says so itself when the stream is opened. Before that, the start of its oldest binlog tells: what was read must reach it."""
    oldest = str(subject.query("SHOW BINARY LOGS")[0][0])
    start = subject.query("SELECT BINLOG_GTID_POS(%s, 4)", (oldest,))[0][0]
    read = DomainPositions(gtid).last
    for domain, text in DomainPositions(str(start or "")).last.items():
        if number_of(text) > (number_of(read[domain]) if domain in read else 0):
            raise positions.lost(subject.server, f"has purged binlogs that we have not read (up to {text})")


def _retention(subject: Subject, state: State, written_ms: int) -> str | Advice:
    """The oldest change that is not read yet is at most as old as the state's last writing: the listener saves what it has read at once."""
    assert subject.connection is not None
    if _reached(subject, positions.now(subject.connection, subject.server), state.position):
        return "nothing is unread"
    lag_hours = max(0, subject.clock_ms() - written_ms) / _HOUR_MS
    kept_hours = retention_hours(subject)
    if kept_hours is None or lag_hours < kept_hours / 2:
        return f"what is unread is at most {lag_hours:.1f} hours old"
    raise SourceError(
        f"changes that are up to {lag_hours:.0f} hours old are unread, and binlogs are kept for {kept_hours:.0f} hours",
        f"{subject.hosting.keep_binlogs(max(WEEK_HOURS, int(lag_hours * 4)))} and start the listener: pixtail listen",
    )


def _reached(subject: Subject, end: Position, read: Position) -> bool:
    if read.gtid is None or end.gtid is None:
        return (end.file, end.pos) == (read.file, read.pos)
    if subject.server.flavour == "mariadb":
        return DomainPositions(end.gtid).last.items() <= DomainPositions(read.gtid).last.items()
    return bool(subject.query("SELECT GTID_SUBSET(%s, %s)", (end.gtid, read.gtid))[0][0])
