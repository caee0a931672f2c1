"""The result of looking at one precondition: what `doctor` prints, and what a service refuses to start over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pixtail.core.errors import PixtailError


@dataclass(frozen=True, slots=True)
class Check:
    """`detail` says what was found; `remedy` is the statement or setting that mends it, ready to be pasted.

    `status` is the exit status that the failure deserves: 3 a setting is wrong, 4 a server cannot be reached. `made` is False for a check
    that could not be made since an earlier one failed; it is not `ok` either.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    status: int = 3
    made: bool = True


def attempt(name: str, look: Callable[[], str]) -> Check:
    """`look` returns what it found, or raises the `PixtailError` that becomes the failed check."""
    try:
        return Check(name, True, look())
    except PixtailError as error:
        return Check(name, False, error.problem, error.remedy, error.exit_status)


def skipped(names: Iterable[str], because: str) -> Iterator[Check]:
    """Checks that could not be made since an earlier one failed."""
    return (Check(name, False, f"not checked: {because}", made=False) for name in names)
