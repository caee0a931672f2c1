"""The services as processes: signals, sudden death, and pulled plugs."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.acceptance.program import pixtail
from tests.acceptance.site import Site, wait_for


def listeners(folder: Path) -> list[int]:
    """Processes `pixtail listen` that work in the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = (process / "cwd").resolve() == folder.resolve()
        except OSError:
            continue
        if here and b"listen" in words:
            found.append(int(process.name))
    return found


@pytest.mark.timeout(240)
def test_a_pipeline_killed_in_the_middle_of_its_work_goes_on_without_a_hole(site: Site) -> None:
    site.insert(30)
    with site.run() as first:
        first.until(lambda: site.points() >= 5, "the first points", limit_s=90)
        site.insert(30)
        first.kill()
    wait_for(lambda: listeners(site.folder) == [], "the listener noticed its parent's death")
    site.server.execute(
        "DELETE FROM images WHERE id = 3", "UPDATE images SET title = 'while away' WHERE id = 4", database=site.database
    )
    site.insert(10)
    with site.run() as second:
        second.until(lambda: site.points() == 69, f"69 points, not {site.points()}", limit_s=90)
        second.until(lambda: title(site, 4) == "while away", "the update made while nobody listened")
        assert httpx.get(f"{site.api}/api/v1/images/3", trust_env=False).status_code == 404
        second.send(signal.SIGTERM)
        assert second.wait(25) == 0, second.text()[-3000:]
    assert listeners(site.folder) == []


def title(site: Site, key: int) -> str:
    answer = httpx.get(f"{site.api}/api/v1/images/{key}", timeout=5, trust_env=False)
    return str(answer.json().get("payload", {}).get("title"))


@pytest.mark.timeout(120)
def test_the_second_signal_ends_the_program_at_once(site: Site) -> None:
    with site.run() as running:
        running.until(lambda: site.points() == 0, "the API answers", limit_s=90)
        running.send(signal.SIGTERM)
        began = time.monotonic()
        running.send(signal.SIGTERM)
        running.wait(20)
        assert time.monotonic() - began < 10


@pytest.mark.timeout(120)
def test_a_second_pipeline_says_that_the_store_is_in_use(site: Site) -> None:
    with site.run() as running:
        running.until(lambda: site.points() == 0, "the API answers", limit_s=90)
        answer = pixtail("encode", cwd=site.folder)
        assert answer.status == 1, answer.err
        assert "in use" in answer.last_line or "open" in answer.last_line
        assert "Traceback" not in answer.err
