"""Into which collection a model's vectors go. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixtail.core.errors import UsageError
from sink.collection import fingerprint_of


@dataclass(frozen=True, slots=True)
class Options:
    """`model`: its name, if not the settings'. `limit`: stop after so many points and do not swap. `concurrency`: pictures
    fetched at a time. `force`: begin anew, whatever is there;
    `only_missing`: fill the holes of the collection that is searched; `accept`: swap whatever the gate says."""

    model: str | None = None
    limit: int | None = None
    batch: int | None = None
    concurrency: int | None = None
    force: bool = False
    only_missing: bool = False
    accept: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Into which collection, and from which. `obsolete` are dropped first. `swaps`: whether the alias is to move in the end."""

    generation: str
    former: str | None
    obsolete: tuple[str, ...] = ()
    swaps: bool = True


def plan(fingerprint: str, current: str | None, previous: str | None, there: Sequence[str], options: Options) -> Plan:
    """For a model, where `there` are the generations that exist. Raises `UsageError` if there is nothing to do.

    What an earlier attempt has left of the model's is continued; so is the previous generation, if it is this model's.
    """
    same = [name for name in there if name != current and fingerprint_of(name) == fingerprint]
    if options.only_missing:
        if current is None or fingerprint_of(current) not in ("", fingerprint):
            raise UsageError("--only-missing fills the collection that is searched, which is another model's")
        return Plan(current, current, swaps=False)
    if current is not None and fingerprint_of(current) == fingerprint and not options.force:
        raise UsageError(
            f"the index is of this model already ({current})",
            "Set model.name, or --model, to another one; or build it anew with --force, or fill its holes with --only-missing",
        )
    swaps = options.limit is None
    if same and not options.force:
        return Plan(max(same, key=_number), current, swaps=swaps)
    obsolete = tuple(name for name in same if name != previous)
    taken = {_number(name) for name in (*same, current or "") if fingerprint_of(name) == fingerprint}
    number = next(number for number in range(1, len(taken) + 2) if number not in taken)
    return Plan(fingerprint if number == 1 else f"{fingerprint}-{number}", current, obsolete, swaps)


def _number(generation: str) -> int:
    return int(generation.partition("-")[2] or 1)
