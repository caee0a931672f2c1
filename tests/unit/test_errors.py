"""The error tree: exit statuses as documented, messages of one line."""

from __future__ import annotations

import pytest

from pixtail.core import errors
from pixtail.core.errors import PixtailError, Reason

STATUSES = {
    "UsageError": 2,
    "SettingError": 3,
    "SourceError": 3,
    "PositionLost": 3,
    "UndecodableEvent": 3,
    "ModelError": 3,
    "DimensionMismatch": 3,
    "ModelMismatch": 3,
    "ServerUnreachable": 4,
    "DatabaseUnreachable": 4,
    "BusUnreachable": 4,
    "StoreUnreachable": 4,
    "Fenced": 1,
    "StoreBusy": 1,
    "PictureError": 1,
}


def test_every_error_has_the_exit_status_that_is_documented() -> None:
    found = {
        name: kind.exit_status
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PixtailError) and kind is not PixtailError
    }
    assert found == STATUSES


def test_a_message_is_one_line_with_the_remedy_at_its_end() -> None:
    assert str(PixtailError("it broke\n  badly", "Mend it")) == "it broke badly. Mend it"
    assert str(PixtailError("it broke")) == "it broke"


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.UNREACHABLE, Reason.HTTP_STATUS])
def test_network_reasons_are_transient(reason: Reason) -> None:
    assert reason.transient


@pytest.mark.parametrize("reason", [Reason.NOT_FOUND, Reason.CORRUPT, Reason.NOT_AN_IMAGE, Reason.FORBIDDEN_ADDRESS])
def test_reasons_of_the_picture_itself_are_permanent(reason: Reason) -> None:
    assert not reason.transient
