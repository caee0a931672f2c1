"""The file that `init` writes is read back as what was meant, and by nobody else."""

from __future__ import annotations

import stat
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pixtail.app.init_file import Place, refuse_existing, render, write
from pixtail.app.init_proposal import Lookup, Proposal
from pixtail.core.errors import UsageError
from pixtail.core.settings import Settings, load

URL = "mysql://pixtail:s%3Acret@db.example:3306/app"
LOOKUP = Lookup("brand_id", "brands", "id", {"name": "brand_name"})
PLAIN = Proposal("images", ("id",), "file_path", (), (), None, (LOOKUP,), "deleted_at")
NAMES = st.text(min_size=1, max_size=20).filter(
    lambda name: "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name)
)


def settings(text: str) -> Settings:
    return Settings(**tomllib.loads(text))


def test_the_file_says_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "pixtail.toml"
    write(path, render(URL, PLAIN, Place({"root": "/srv/uploads"}, "seen\nthere"), "kafka:9092"))
    found = load(path, {})
    assert found.mysql.address.password == "s:cret"
    assert (found.table.name, found.table.key_columns, found.table.picture) == ("images", ("id",), "file_path")
    assert (str(found.pictures.root), found.kafka.bootstrap) == ("/srv/uploads", "kafka:9092")
    assert found.table.rename == {"id": "image_id"}
    assert found.table.only == {}, "only a suggestion"
    (lookup,) = found.table.lookups
    assert (lookup.table, lookup.key, lookup.column, lookup.take) == (
        "brands",
        "id",
        "brand_id",
        {"name": "brand_name"},
    )


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "pixtail.toml"
    path.write_text("old")
    path.chmod(0o644)
    write(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_the_address_can_be_left_to_the_environment() -> None:
    text = render(None, PLAIN, Place({}), "kafka:9092")
    assert "PIXTAIL_MYSQL__URL" in text
    assert "url" not in tomllib.loads(text)["mysql"]


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pixtail.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        refuse_existing(path, force=False)
    refuse_existing(path, force=True)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        refuse_existing(tmp_path / "no" / "pixtail.toml", force=False)
    with pytest.raises(UsageError, match="cannot be written"):
        write(tmp_path / "no" / "pixtail.toml", "")


@given(NAMES, NAMES, NAMES, NAMES)
def test_any_name_comes_back_as_it_was(name: str, key: str, picture: str, other: str) -> None:
    lookup = Lookup(picture, f"{name} too", key, {key: "a name that stands nowhere else"})
    assume('"' not in picture and picture != other)
    proposal = Proposal(name, (key, "n"), picture, (picture, other), (other,), {other: name}, (lookup,), other)
    found = settings(render(URL, proposal, Place({"root": "x"}, other), "k:1")).table
    assert (found.name, found.key, found.picture) == (name, (key, "n"), picture)
    assert (found.payload, found.rename[other]) == ((picture, other), name)
    assert [vars(one) for one in found.lookups] == [asdict(lookup)]
