"""Pictures from the file system: read below the root, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from encoder.pictures import Pictures
from pixtail.core import settings
from pixtail.core.errors import PictureError, Reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.jpg").write_bytes(b"picture")
    (root / "sub" / "b c%20ü.jpg").write_bytes(b"other")
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return root


def source(root: Path, max_bytes: int = 100) -> Pictures:
    return Pictures(settings.Pictures(root=root, max_bytes=max_bytes))


def reason_of(root: Path, ref: str, max_bytes: int = 100) -> Reason:
    with pytest.raises(PictureError) as caught:
        source(root, max_bytes).fetch(ref)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_relative_path_starts_at_the_root(root: Path) -> None:
    assert source(root).fetch("a.jpg") == b"picture"
    assert source(root).fetch("./sub/../a.jpg") == b"picture"
    assert source(root).fetch("sub/b c%20ü.jpg") == b"other"


def test_an_absolute_path_is_read_below_the_root_only(root: Path) -> None:
    assert source(root).fetch(str(root / "a.jpg")) == b"picture"
    assert reason_of(root, str(root.parent / "secret.txt")) is Reason.FORBIDDEN_ADDRESS


def test_a_file_url_is_a_path(root: Path) -> None:
    assert source(root).fetch(f"file://{root}/a.jpg") == b"picture"
    assert source(root).fetch((root / "sub" / "b c%20ü.jpg").as_uri()) == b"other"
    assert reason_of(root, f"file://{root.parent}/secret.txt") is Reason.FORBIDDEN_ADDRESS
    assert reason_of(root, "file://elsewhere/a.jpg") is Reason.UNSUPPORTED


@pytest.mark.parametrize(
    "ref", ["../secret.txt", "sub/../../secret.txt", "/etc/passwd", "link.jpg", "folder/secret.txt"]
)
def test_nothing_outside_the_root_is_read(root: Path, ref: str) -> None:
    (root / "link.jpg").symlink_to(root.parent / "secret.txt")
    (root / "folder").symlink_to(root.parent)
    assert reason_of(root, ref) is Reason.FORBIDDEN_ADDRESS


def test_a_link_inside_the_root_is_followed(root: Path) -> None:
    (root / "link.jpg").symlink_to(root / "a.jpg")
    assert source(root).fetch("link.jpg") == b"picture"


def test_a_root_that_is_itself_a_link_is_a_root(root: Path) -> None:
    (root.parent / "mount").symlink_to(root)
    assert source(root.parent / "mount").fetch("a.jpg") == b"picture"


@pytest.mark.parametrize("ref", ["none.jpg", "a.jpg/b.jpg", "sub", "nul\0.jpg", "x" * 5000, "loop.jpg"])
def test_a_file_that_is_not_there_is_not_found(root: Path, ref: str) -> None:
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    assert reason_of(root, ref) is Reason.NOT_FOUND


def test_a_pipe_is_no_picture_and_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe.jpg")
    assert reason_of(root, "pipe.jpg") is Reason.NOT_FOUND


def test_a_file_beyond_the_limit_is_too_large(root: Path) -> None:
    assert source(root, max_bytes=7).fetch("a.jpg") == b"picture"
    assert reason_of(root, "a.jpg", max_bytes=6) is Reason.TOO_LARGE


def test_a_root_that_is_away_is_unreachable_rather_than_empty(root: Path) -> None:
    assert reason_of(root / "unmounted", "a.jpg") is Reason.UNREACHABLE
