"""Is the index right? As a user asks: `pixtail verify` beside `pixtail run`, which holds the embedded store open."""

from __future__ import annotations

import re
import signal

import httpx
import pytest

from tests.acceptance.site import Site

NOTHING = {"missing": 0, "orphan": 0, "stale": 0, "model": 0, "payload": 0}
pytestmark = pytest.mark.parametrize("database", ["mariadb"], indirect=True)


def drift(site: Site) -> dict[str, int]:
    """As Prometheus sees it."""
    text = httpx.get(f"{site.api}/metrics", timeout=5, trust_env=False).text
    return {kind: int(float(value)) for kind, value in re.findall(r'^pixtail_drift{kind="(\w+)"} (\S+)', text, re.M)}


@pytest.mark.timeout(240)
def test_drift_is_found_shown_to_prometheus_and_mended_while_run_goes_on(site: Site) -> None:
    site.set('api.token = "open sesame"', 'verify.every = "1h"')
    picture, *_ = site.insert(6)
    with site.run() as run:
        run.until(lambda: site.points() == 6, "six points", limit_s=90)
        well = site.pixtail("verify", "--json")
        assert (well.status, well.json["rows"], well.json["points"]) == (0, 6, 6), well.err
        assert well.json["drift"] == drift(site) == NOTHING

        site.execute(  # what no event tells of: the index cannot know
            "SET sql_log_bin = 0",
            "DELETE FROM images WHERE id = 1",
            "UPDATE images SET title = 'new' WHERE id = 2",
            f"UPDATE images SET file_path = '{picture}' WHERE id = 3",
            f"INSERT INTO images VALUES (7, 't', '{picture}')",
        )
        wrong = site.pixtail("verify", "--json")
        assert wrong.status == 1
        assert wrong.json["drift"] == drift(site) == {**NOTHING, "orphan": 1, "payload": 1, "stale": 1, "missing": 1}
        assert {(found["id"], found["kind"]) for found in wrong.json["differences"]} == {
            (1, "orphan"),
            (2, "payload"),
            (3, "stale"),
            (7, "missing"),
        }

        mended = site.pixtail("verify", "--repair", "--batch-size", "2")
        assert mended.status == 0, mended.err
        assert "nothing differs" in mended.out
        assert "4 repaired" in mended.out
        assert drift(site) == NOTHING
        run.send(signal.SIGTERM)
        assert run.wait(25) == 0, run.text()[-3000:]

    alone = site.pixtail("verify", "--json")  # now the store is free
    assert (alone.status, alone.json["drift"], alone.json["points"]) == (0, NOTHING, 6), alone.err
