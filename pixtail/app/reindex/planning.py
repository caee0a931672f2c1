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


def require_sense(options: Options) -> None:
    """Raises `UsageError` for options that contradict each other."""
    if options.only_missing and options.force:
        raise UsageError(
            "--only-missing fills the collection that is searched, and --force makes another one",
            "Leave one of them out",
        )
    if options.only_missing and options.limit is not None:
        raise UsageError(
            "--limit is for a trial beside the collection that is searched, and --only-missing fills that one",
            "Leave one of them out; Ctrl-C pauses it",
        )


def plan(fingerprint: str, current: str | None, previous: str | None, there: Sequence[str], options: Options) -> Plan:
    """For a model, where `there` are the generations that exist. Raises `UsageError` if there is nothing to do.

    What an earlier attempt has left of the model's is continued, whether it was begun by force or not. So is the previous generation,
    unless the index is of this model already.
    """
    if options.only_missing:
        return _filling(fingerprint, current)
    same = [name for name in there if name != current and fingerprint_of(name) == fingerprint]
    left = [name for name in same if name != previous]
    of_model_already = current is not None and fingerprint_of(current) == fingerprint
    swaps = options.limit is None
    if not options.force:
        if found := left if of_model_already else same:
            return Plan(max(found, key=_number), current, swaps=swaps)
        if of_model_already:
            raise UsageError(
                f"the index is of this model already ({current})",
                "Set model.name, or --model, to another one; or build it anew with --force, or fill its holes with --only-missing",
            )
    taken = {_number(name) for name in (*same, current or "") if fingerprint_of(name) == fingerprint}
    number = next(number for number in range(1, len(taken) + 2) if number not in taken)
    return Plan(fingerprint if number == 1 else f"{fingerprint}-{number}", current, tuple(left), swaps)


def _filling(fingerprint: str, current: str | None) -> Plan:
    if current is None:
        raise UsageError(
            "--only-missing fills the collection that is searched, and there is none yet", "`pixtail run` makes it"
        )
    if fingerprint_of(current) not in ("", fingerprint):
        raise UsageError(
            f"--only-missing fills the collection that is searched ({current}), which is another model's",
            "Set model.name, or --model, to that one; or leave --only-missing out, to move to this one",
        )
    return Plan(current, current, swaps=False)


def _number(generation: str) -> int:
    return int(generation.partition("-")[2] or 1)
