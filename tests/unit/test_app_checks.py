"""Small decisions of the program: percentiles, samples, what the health page says, what doctor makes of errors."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from pixtail.app.demo.freshness import percentile
from pixtail.app.demo.samples import make_samples
from pixtail.app.demo.stack import Places, _config, _without_settings
from pixtail.app.doctor import summary
from pixtail.app.health import HealthService
from pixtail.core.checks import Check, attempt, skipped
from pixtail.core.errors import BusUnreachable
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Metrics as MetricsSettings
from pixtail.core.settings import load, parse_mysql_url


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles_are_those_of_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected


def test_the_same_sample_number_draws_the_same_picture(tmp_path: Path) -> None:
    first = list(make_samples(tmp_path / "a", 3))
    again = list(make_samples(tmp_path / "b", 3))
    assert first == again
    assert len({sample.file_path for sample in first}) == 3
    for sample in first:
        assert (tmp_path / "a" / sample.file_path).read_bytes() == (tmp_path / "b" / sample.file_path).read_bytes()
    (late,) = make_samples(tmp_path / "c", 1, first=2)
    assert late == first[2]


def test_the_demos_settings_file_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "mysql://root@127.0.0.1:3307/app"
    places = Places(
        tmp_path, parse_mysql_url(url), url, "127.0.0.1:9", "http://127.0.0.1:18080", "http://127.0.0.1:19108"
    )
    places.config.write_text(_config(places))
    monkeypatch.chdir(tmp_path)
    settings = load(places.config)
    assert (settings.source, settings.api.port, settings.metrics.port) == ("app.images", 18080, 19108)
    assert settings.model.name == "tiny-clip"


def test_the_users_settings_do_not_reach_the_demo() -> None:
    environ = {
        "PATH": "/bin",
        "QDRANT_URL": "http://mine",
        "PIXTAIL_MYSQL__URL": "mysql://mine",
        "PIXTAIL_PARTS": "/parts",
    }
    assert _without_settings(environ) == {"PATH": "/bin", "PIXTAIL_PARTS": "/parts"}


def test_the_health_page_says_what_is_missing() -> None:
    missing = ["worker"]
    service = HealthService(MetricsSettings(), Metrics(), lambda: missing)
    status, body, _ = service.answer("/readyz", "")
    assert (status, orjson.loads(body)) == (503, {"ready": False, "missing": ["worker"]})
    missing.clear()
    assert service.answer("/readyz", "")[0] == 200
    assert service.answer("/healthz", "")[0] == 200
    assert service.answer("/nothing", "")[0] == 404


def test_metrics_come_in_the_form_that_is_asked_for() -> None:
    service = HealthService(MetricsSettings(), Metrics(), list)
    _, plain, plain_type = service.answer("/metrics", "*/*")
    _, modern, modern_type = service.answer("/metrics", "application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert b'pixtail_events_total{op="c"} 0.0' in plain
    assert modern.endswith(b"# EOF\n")


def test_a_check_keeps_problem_remedy_and_status_of_an_error() -> None:
    def fails() -> str:
        raise BusUnreachable("Kafka is away", "Start it")

    assert attempt("Kafka", fails) == Check("Kafka", False, "Kafka is away", "Start it", 4)
    assert attempt("fine", lambda: "found") == Check("fine", True, "found")
    assert [(check.ok, check.made) for check in skipped(["a", "b"], "no database")] == [(False, False)] * 2


def test_doctors_last_line_counts_what_failed_and_what_could_not_be_looked_at() -> None:
    well, bad = Check("a", True, ""), Check("b", False, "broken", "mend it")
    assert summary([well, well]) == "2 checks, all well"
    assert summary([well, bad]) == "2 checks, 1 failed"
    assert summary([bad, *skipped(["c", "d"], "b failed")]) == "3 checks, 1 failed, 2 not made"


def test_only_our_errors_become_checks() -> None:
    def bug() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        attempt("x", bug)
