"""The index moves to another model and back, while it is searched and written, and is killed on the way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pixtail.core.points import now_text
from tests.acceptance.program import PIXTAIL, Running, environment, pixtail
from tests.acceptance.site import Site
from tests.support.random_clip import save_random_clip

ROWS = 40
LATE = 3
TRIAL = ("--limit", "5", "--batch", "1", "--concurrency", "1")  # slowly: it looks now and then
pytestmark = pytest.mark.parametrize("database", ["mysql"], indirect=True)  # the listener's tests know both


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A second model, of vectors of another size."""
    return str(save_random_clip(tmp_path / "another-clip"))


@contextmanager
def searches(site: Site) -> Iterator[list[Any]]:
    """Searches all the time; what was no answer with hits is in the list."""
    failed: list[Any] = []
    stop = threading.Event()

    def search() -> None:
        with httpx.Client(base_url=site.api, trust_env=False, timeout=10) as client:
            while not stop.is_set():
                answer = client.get("/api/v1/search", params={"text": "a red bus", "limit": 3})
                if not answer.is_success or len(answer.json()["hits"]) != 3:
                    failed.append((answer.status_code, answer.text[:300]))
                time.sleep(0.01)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()


def dimension(site: Site) -> int:
    stats = site.stats()
    return 0 if stats is None else int(stats["model"]["dimension"])


def begin(site: Site, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PIXTAIL, *words], cwd=site.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.timeout(300)
def test_the_index_moves_to_another_model_and_back_without_a_failed_search(site: Site, model: str) -> None:
    site.insert(ROWS)
    site.execute("INSERT INTO images (title, file_path) VALUES ('lost', 'lost.png')")
    with site.run() as running:
        running.until(lambda: site.points() == ROWS, "the first points", limit_s=90)
        former = dimension(site)
        with searches(site) as failed:
            changed = {"PIXTAIL_MODEL__NAME": model}  # after the process was started that has the store
            dry = pixtail("reindex", "--dry-run", "--json", cwd=site.folder, env=changed)
            assert (dry.status, dry.json["swapped"], dry.json["points"]) == (0, False, 0), dry.err
            file = site.folder / "failures.json"
            moved = begin(site, "reindex", "--model", model, "--json", "--failures", str(file))
            site.execute("DELETE FROM images WHERE id = 3", "UPDATE images SET title = 'meanwhile' WHERE id = 4")
            site.insert(5)
            out, err = moved.communicate(timeout=120)
            assert moved.returncode == 0, err + running.text()[-3000:]
            outcome = json.loads(out)
            assert (outcome["swapped"], outcome["objections"]) == (True, []), outcome
            running.until(lambda: dimension(site) not in (0, former), "the process follows the alias")
            running.until(lambda: site.points() == ROWS + 4, "what was written meanwhile is there too")
            [lost] = json.loads(file.read_text())
            assert (lost["file"], lost["reason"]) == ("lost.png", "not_found")
            site.insert(2)
            running.until(lambda: site.points() == ROWS + 6, "what is written afterwards")
            back = site.pixtail("rollback", "--json")
            assert (back.status, back.json["former"]) == (0, outcome["generation"]), back.err
            running.until(lambda: dimension(site) == former, "the process follows back")
            running.until(lambda: site.points() == ROWS + 6, "the former collection catches up with what it missed")
        assert failed == []
        again = site.pixtail("reindex")
        assert (again.status, "--force" in again.last_line) == (2, True), again.err
        assert site.pixtail("rollback").status == 0
        running.send(signal.SIGTERM)
        assert running.wait(30) == 0, running.text()[-3000:]
    with site.run() as restarted:
        restarted.until(
            lambda: dimension(site) not in (0, former), "the index decides which model is loaded", limit_s=90
        )
        assert "another model than the settings" in restarted.text()


@pytest.mark.timeout(300)
def test_a_move_that_is_killed_goes_on_where_it_was(site: Site, model: str) -> None:
    site.insert(ROWS)
    with site.run() as first:
        first.until(lambda: site.points() == ROWS, "the first points", limit_s=90)
        part = site.pixtail("reindex", "--model", model, *TRIAL, "--json")
        assert (part.status, part.json["swapped"], part.json["finished"]) == (0, False, False), part.err
        assert part.json["points"] >= 5, "about the limit"
        trial = now_text()
        interrupted = begin(site, "reindex", "--model", model, "--json")
        first.until(lambda: reindexing(site), "it has begun")
        first.kill()
        interrupted.communicate(timeout=60)
        assert interrupted.returncode != 0
    with site.run() as second:
        second.until(lambda: site.points() == ROWS, "the former index is searched as before", limit_s=90)
        moved = site.pixtail("reindex", "--model", model, "--json")
        assert (moved.status, moved.json["swapped"], moved.json["points"]) == (0, True, ROWS), moved.err + moved.out
        assert verified(second, site)
        of_trial = [sync for sync in syncs(site).values() if sync["at"] < trial]
        assert len(of_trial) == part.json["points"], "what the trial has encoded is not encoded again"


@pytest.mark.timeout(300)
def test_the_collection_of_one_model_gets_what_it_lacks_and_is_made_anew(site: Site) -> None:
    site.insert(ROWS)
    site.execute(*(f"INSERT INTO images VALUES ({ROWS + n}, 'late', 'late-{n}.png')" for n in range(1, LATE + 1)))
    with site.run() as running:
        running.until(lambda: (site.points(), failing(site)) == (ROWS, LATE), "the first points", limit_s=90)
        first = syncs(site)
        pictures, away = site.folder / "pictures", site.folder / "away"
        pictures.rename(away)  # a row that is encoded again would fail now
        pictures.mkdir()
        for n in range(1, LATE + 1):
            Image.new("RGB", (64, 64), (80 * n, 0, 0)).save(pictures / f"late-{n}.png")
        refused = site.pixtail("reindex", "--only-missing", "--force")
        assert (refused.status, "Leave one of them out" in refused.last_line) == (2, True), refused.err
        filled = site.pixtail("reindex", "--only-missing", "--json")
        assert (filled.status, filled.json["swapped"], filled.json["failures"]) == (0, False, []), filled.err
        assert filled.json["points"] == ROWS + LATE
        running.until(lambda: failing(site) == 0, "no picture fails")
        whole = syncs(site)
        assert {key: whole[key] for key in first} == first, "what was there is not touched"

        shutil.copytree(away, pictures, dirs_exist_ok=True)
        anew = site.pixtail("reindex", "--force", "--json")
        assert (anew.status, anew.json["swapped"], anew.json["points"]) == (0, True, ROWS + LATE), anew.err
        assert anew.json["generation"] == f"{anew.json['former']}-2", "of the same model"
        again = syncs(site)
        assert again.keys() == whole.keys()
        assert min(sync["at"] for sync in again.values()) > max(sync["at"] for sync in whole.values())
        [hit] = site.pixtail("search", "a red bus", "--limit", "1", "--json").json["hits"]
        assert hit["sync"] == again[hit["id"]], "the new collection is searched"


def failing(site: Site) -> int:
    stats = site.stats()
    return 0 if stats is None else int(stats["pipeline"]["dead_letters"])


def syncs(site: Site) -> dict[int, Any]:
    """The bookkeeping of every point that is searched."""
    exported = httpx.get(f"{site.api}/api/v1/export", timeout=10, trust_env=False).raise_for_status()
    return {point["id"]: point["sync"] for point in map(json.loads, exported.iter_lines())}


def reindexing(site: Site) -> bool:
    answer = httpx.get(f"{site.api}/api/v1/reindex", trust_env=False, timeout=5).json()
    return bool(answer["running"] and answer["doing"])


def verified(running: Running, site: Site) -> bool:
    answer = site.pixtail("verify", "--json")
    assert answer.status == 0, answer.out + answer.err + running.text()[-2000:]
    return bool(answer.json["ok"])


@pytest.mark.timeout(180)
def test_an_index_that_somebody_removed_is_made_anew_from_the_topic(site: Site) -> None:
    site.insert(10)
    with site.run() as first:
        first.until(lambda: site.points() == 10, "the first points", limit_s=90)
        first.send(signal.SIGTERM)
        first.wait(30)
    for path in sorted((site.folder / "pixtail-data").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with site.run() as second:
        second.until(lambda: site.points() == 10, "all points again", limit_s=90)
