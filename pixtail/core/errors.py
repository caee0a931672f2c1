"""Every error a user may meet, in one tree.

    PixtailError                  exit status 1
    ├── UsageError                2   the command line asks for something impossible
    ├── SettingError              3   a setting, grant or server variable is wrong
    │   ├── SourceError               the database cannot be followed as it stands
    │   │   ├── PositionLost          the server no longer has the binlog we stopped at
    │   │   └── UndecodableEvent      an event of the listened table that we must not skip
    │   ├── ModelError                the model cannot be loaded
    │   ├── DimensionMismatch         the model's vectors do not fit the collection
    │   └── ModelMismatch             the collection was made with another model
    ├── ServerUnreachable         4   a server does not answer
    │   ├── DatabaseUnreachable
    │   ├── BusUnreachable
    │   └── StoreUnreachable
    ├── Fenced                    1   another process has taken over; this one must stop
    ├── StoreBusy                 1   the embedded store is open in another process
    └── PictureError              1   one picture cannot be had; it never costs its neighbours anything

Vendor errors are translated in the adapter that meets them; nothing outside an adapter catches a vendor's type.
Whether something is worth another try is decided by type (`ServerUnreachable`) or by `Reason.transient`, never by message text.
"""

from __future__ import annotations

from enum import StrEnum


class PixtailError(Exception):
    """What is wrong and where (`problem`), and what to do about it (`remedy`), in one line each."""

    exit_status = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = " ".join(problem.split())
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


class UsageError(PixtailError):
    exit_status = 2


class SettingError(PixtailError):
    exit_status = 3


class SourceError(SettingError):
    """The database cannot be followed as it stands."""


class PositionLost(SourceError):
    """The server no longer has the binlog that the saved position points into."""


class UndecodableEvent(SourceError):
    """An event that touches the listened table and that the listener cannot decode: it stops rather than lose a row."""


class ModelError(SettingError):
    """The model cannot be loaded from the place that was named."""


class DimensionMismatch(SettingError):
    """The model's vectors do not fit the collection."""


class ModelMismatch(SettingError):
    """The collection was made with another model: vectors of the two cannot be compared, whatever their size."""


class ServerUnreachable(PixtailError):
    """Transient: the same call may succeed later."""

    exit_status = 4


class DatabaseUnreachable(ServerUnreachable):
    pass


class BusUnreachable(ServerUnreachable):
    pass


class StoreUnreachable(ServerUnreachable):
    pass


class Fenced(PixtailError):
    """Another process with the same identity has taken over; whatever this one holds must be dropped."""


class StoreBusy(PixtailError):
    """The embedded store is open in another process. `api` is that process's HTTP address, if it serves one."""

    def __init__(self, problem: str, remedy: str = "", api: str | None = None) -> None:
        super().__init__(problem, remedy)
        self.api = api


class Reason(StrEnum):
    """Why a picture failed: the `reason` header of its dead letter and the label of `dlq_open`."""

    NOT_FOUND = "not_found"
    FORBIDDEN_ADDRESS = "forbidden_address"
    TOO_LARGE = "too_large"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT = "corrupt"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    HTTP_STATUS = "http_status"
    MALFORMED = "malformed"  # the record itself, not the picture

    @property
    def transient(self) -> bool:
        """True if the same picture may well load later without anybody changing it."""
        return self in (Reason.TIMEOUT, Reason.UNREACHABLE, Reason.HTTP_STATUS)


class PictureError(PixtailError):
    """One picture cannot be fetched, decoded or encoded. It is data: it goes to the dead letters under `reason`."""

    def __init__(self, reason: Reason, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.reason = reason
