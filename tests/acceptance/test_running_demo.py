"""A running demo, looked at with the program's own commands, a real Prometheus, and plain SQL."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pymysql
import pytest
from playwright.sync_api import expect

from pixtail.servers.parts import Part
from pixtail.servers.prometheus import PrometheusServer
from tests.acceptance.conftest import Demo
from tests.acceptance.program import PIXTAIL, environment
from tests.support import dashboard
from tests.support.browser import chromium

ROWS = 240


def test_status_says_where_everything_stands(demo: Demo) -> None:
    status = demo.pixtail("status", "--json")
    assert status.status == 0, status.err
    found = status.json
    assert found["points"] >= ROWS
    assert found["model"] == "tiny-clip"
    assert found["state"]["seq"] > 0
    assert found["dead_letters"] == {}
    for_people = demo.pixtail("status")
    assert (for_people.status, "app.images" in for_people.out) == (0, True)


def test_doctor_finds_all_well(demo: Demo) -> None:
    answer = demo.pixtail("doctor", "--json")
    failed = [check for check in answer.json["checks"] if not check["ok"]]
    assert (answer.status, failed) == (0, [])
    assert len(answer.json["checks"]) >= 10


@pytest.mark.parametrize(("query", "category"), [("a white bus", "bus"), ("红色轿车", "sedan")])
def test_search_finds_pictures_while_the_pipeline_holds_the_store_open(demo: Demo, query: str, category: str) -> None:
    answer = demo.pixtail("search", query, "--limit", "3", "--json")
    assert answer.status == 0, answer.err
    assert [hit["payload"]["category"] for hit in answer.json["hits"]] == [category] * 3


def test_search_by_an_image_finds_that_image(demo: Demo) -> None:
    best = demo.pixtail("search", "a bus", "--limit", "1", "--json").json["hits"][0]
    picture = demo.settings.pictures.root / best["payload"]["file_path"]
    again = demo.pixtail("search", "--image", str(picture), "--limit", "1", "--json")
    assert again.json["hits"][0]["id"] == best["id"]


def test_a_file_that_is_no_picture_is_refused_in_one_line(demo: Demo) -> None:
    answer = demo.pixtail("search", "--image", str(demo.config))
    assert answer.status == 1
    assert len(answer.err.strip().splitlines()) == 1, answer.err
    assert "Traceback" not in answer.err


def test_everything_comes_out_while_the_pipeline_holds_the_store_open(demo: Demo, tmp_path: Path) -> None:
    lines = demo.pixtail("export", "--no-vectors", "--where", "category=bus").out.splitlines()
    assert {orjson.loads(line)["payload"]["category"] for line in lines} == {"bus"}
    array = demo.pixtail("export", "--format", "npy", "--output", str(tmp_path / "all.npy"))
    assert array.status == 0, array.err
    vectors = np.load(tmp_path / "all.npy")
    assert len(vectors) == len((tmp_path / "all.jsonl").read_bytes().splitlines()) == demo.points()
    stats = demo.pixtail("stats", "--by", "category", "--json").json
    assert stats["points"] == demo.points()
    assert {"value": "bus", "count": len(lines)} in stats["by"]["category"]
    assert demo.pixtail("stats", "--by", "colour").status == 2
    nearest = demo.pixtail("similar", str(orjson.loads(lines[0])["id"]), "--limit", "1", "--json").json["hits"][0]
    duplicates = demo.pixtail("duplicates", "--min-score", f"{nearest['score'] - 1e-4}", "--json").json
    assert nearest["id"] in {member["id"] for group in duplicates["near"] for member in group}
    missing = demo.pixtail("similar", "999999999")
    assert (missing.status, "no image '999999999'" in missing.last_line) == (1, True)


@pytest.mark.parametrize(("into", "status", "words"), [("| head -c 100", 0, []), ("> /dev/full", 1, ["space left"])])
def test_an_export_into_a_pipe_that_closes_is_quiet_and_into_a_full_disk_is_not(
    demo: Demo, into: str, status: int, words: list[str]
) -> None:
    command = f"{PIXTAIL} export --config {demo.config} {into}"
    ran = subprocess.run(
        command, shell=True, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    said = ran.stderr.strip().splitlines()
    assert (ran.returncode, len(said)) == (status, len(words)), ran.stderr
    assert all(word in line for word, line in zip(words, said, strict=True)), said


def test_a_row_inserted_by_hand_fails_visibly_and_leaves_with_its_row(demo: Demo) -> None:
    with connect(demo) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO images (id, title, file_path) VALUES (777777, 'nothing', 'no/such/file.jpg')")
        assert wait(lambda: demo.pixtail("dlq", "list", "--json").json["dead_letters"])
        (letter,) = demo.pixtail("dlq", "list", "--json").json["dead_letters"]
        assert (letter["key"], letter["reason"]) == ({"id": 777777}, "not_found")
        assert "not_found" in demo.pixtail("dlq", "list").out
        cursor.execute("DELETE FROM images WHERE id = 777777")
        assert wait(lambda: not demo.pixtail("dlq", "list", "--json").json["dead_letters"])


def wait(done: Callable[[], Any], limit_s: float = 30) -> bool:
    """True once `done` is; False when time runs out."""
    deadline = time.monotonic() + limit_s
    while not (answer := done()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(answer)


def test_the_console_shows_what_a_visitor_searches_for(
    demo: Demo, needs: Callable[[Part], Path], tmp_path: Path
) -> None:
    with chromium(needs(Part.CHROMIUM)) as browser:
        page = browser.new_page()
        page.goto(f"{demo.api}/?q=红色公交车")
        expect(page.locator(".card .category").first).to_have_text("bus")
        pictures = page.locator(".card img")
        expect(pictures.first).to_be_visible()
        page.screenshot(path=tmp_path / "console.png")
        assert pictures.first.evaluate("picture => picture.complete && picture.naturalWidth > 0"), "a broken picture"


def connect(demo: Demo) -> pymysql.Connection[Any]:
    address = demo.settings.mysql.address
    return pymysql.connect(
        host=address.host, port=address.port, user=address.user, database=address.database, autocommit=True
    )


def work(demo: Demo) -> None:
    """Rows come, are searched for, and go."""
    before = demo.points()
    with connect(demo) as connection, connection.cursor() as cursor:
        for key in range(800_000, 800_005):
            cursor.execute(
                "INSERT INTO images (id, title, file_path) SELECT %s, 'again', file_path FROM images LIMIT 1", (key,)
            )
        assert wait(lambda: demo.points() == before + 5)
        assert demo.pixtail("search", "a bus", "--limit", "1").status == 0
        cursor.execute("DELETE FROM images WHERE id >= 800000 AND id < 800005")
        assert wait(lambda: demo.points() == before)


# What a demo without a failure and without a verify has nothing to say about.
SILENT = {"Drift", "Alerts", "Store errors", "Dead letters"}


def test_every_panel_and_rule_is_answered_by_a_prometheus_that_scrapes_the_demo(demo: Demo) -> None:
    targets = [f"127.0.0.1:{port}" for port in (demo.settings.metrics.port, demo.settings.api.port)]
    with PrometheusServer(dashboard.config(targets, interval="500ms")) as prometheus:
        dashboard.wait_for_scrapes(prometheus.url)
        work(demo)  # rates and quantiles speak of what happens while they watch
        for _title, expression in dashboard.panel_queries() + dashboard.rule_queries():
            dashboard.query(prometheus.url, expression)
        assert wait(lambda: dashboard.panels_without_data(prometheus.url) <= SILENT), (
            f"no data in {dashboard.panels_without_data(prometheus.url) - SILENT}"
        )
        assert wait(lambda: shown_points(prometheus.url) == demo.points()), (
            f"the dashboard shows {shown_points(prometheus.url)} points, the API {demo.points()}"
        )


def shown_points(prometheus_url: str) -> int:
    (points,) = dashboard.query(prometheus_url, "max(pixtail_points)")
    return int(float(points["value"][1]))
