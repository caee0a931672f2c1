"""`pixtail snapshot` and `pixtail restore`, as a user runs them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sink.edge import EdgeStore
from tests.acceptance.program import pixtail
from tests.support.points import DIMENSION, upsert


def test_what_was_packed_is_put_back_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "pixtail-data"
    with closing(EdgeStore(path, "images")) as store:
        store.prepare(DIMENSION, "f00d")
        store.apply([upsert(1, 1), upsert(2, 1)])
    assert pixtail("snapshot", "index.tar", cwd=tmp_path).out.startswith("2 points, ")
    with closing(EdgeStore(path, "images")) as store:
        store.apply([upsert(3, 1)])
    refused = pixtail("restore", "index.tar", cwd=tmp_path)
    assert (refused.status, "--force" in refused.last_line) == (2, True)
    assert pixtail("restore", "index.tar", "--force", "--json", cwd=tmp_path).json["points"] == 2
    with closing(EdgeStore(path, "images")) as store:
        assert store.count() == 2
