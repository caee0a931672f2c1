"""The demo's own check, run as a user runs it, on both kinds of database."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.program import Running, pixtail

CHECKS = 12


@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", ["mysql", "mariadb"])
def test_the_demos_check_passes_and_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    answer = pixtail(
        "demo", "--check", "--json", "--database", database, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}, timeout_s=380
    )
    assert answer.status == 0, answer.out + answer.err
    report = answer.json
    assert [check["name"] for check in report["checks"] if not check["ok"]] == []
    assert len(report["checks"]) == CHECKS
    assert report["freshness"]["rows"] == 200
    assert report["timings_s"]["first_searchable"] > 0
    assert list(tmp_path.glob("pixtail-*")) == [], "the demo's folder is still there"
    assert processes_in(tmp_path) == ""


@pytest.mark.timeout(120)
def test_a_demo_that_is_killed_takes_everything_it_started_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Running("demo", "--database", "mariadb", cwd=tmp_path) as running:
        # Only a pipeline that has started holds on when its servers vanish; before, it would end by itself.
        running.until(lambda: "Ctrl-C stops everything" in running.text(), "the demo runs")
        assert "pixtail.app listen" in processes_in(tmp_path)
        running.kill()
    deadline = time.monotonic() + 40
    while left := processes_in(tmp_path):
        assert time.monotonic() < deadline, f"still there:\n{left}"
        time.sleep(0.1)


def processes_in(folder: Path) -> str:
    """Processes whose command line names the folder (pgrep never lists itself)."""
    return subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False).stdout
