"""seq: the version of a row, strictly increasing over the whole table."""

from __future__ import annotations

from time import time_ns


def now_ms() -> int:
    return time_ns() // 1_000_000


class Sequence:
    """Hands out seqs: `max(last + 1, now_ms << 10)`.

    The clock's part makes seq outlive a lost state topic, the `last` part makes it increase when the clock stands still or goes back.
    It stays below 2^53 until the year 2248, so doubles hold it exactly. For one thread.
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def begin(self, now_ms: int) -> int:
        """The seq before the next one: whoever hands some out counts on from here, and sets `last`."""
        return max(self.last, (now_ms << 10) - 1)
