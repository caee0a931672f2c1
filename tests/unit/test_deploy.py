"""What is deployed fits the program: settings, metrics, addresses, files."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from pixtail.core.metrics import Metrics
from pixtail.core.settings import ALIASES, ENV_PREFIX, Api, Settings, load
from pixtail.core.settings import Metrics as MetricsSection
from tests.support.dashboard import DASHBOARD, DEPLOY, PROMETHEUS, RULES, panel_queries, panels, rule_queries

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PIXTAIL = ("listen", "encode", "serve")
PORTS = {"listen": MetricsSection().port, "encode": MetricsSection().port, "serve": Api().port}
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
REFERENCE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule
]


def example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(text: str, environ: dict[str, str]) -> str:
    """Compose's interpolation, as far as compose.yaml uses it."""
    return REFERENCE.sub(lambda found: environ.get(found[1]) or (found[3] if found[2] == "-" else ""), text)


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """The settings as the container's process would load them, with the example's variables."""
    monkeypatch.chdir(folder)
    for variable in [name for name in os.environ if name.startswith(ENV_PREFIX) or name in ALIASES]:
        monkeypatch.delenv(variable)
    for name, value in SERVICES[service]["environment"].items():
        monkeypatch.setenv(name, filled(str(value), example()))
    return load()


def all_metrics() -> dict[str, set[str]]:
    """Metric → the names of its series in Prometheus."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
    return {m.name: {m.name + suffix for suffix in suffixes[m.type]} for m in Metrics().registry.collect()}


def own_names(expr: str) -> set[str]:
    """The names of Pixtail's series in a query, recorded ones (`job:pixtail_…:sum`) included, alerts' names left out."""
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r'"[^"]*"', "", expr)) if "pixtail_" in name}


# compose.yaml


def test_the_stack_has_the_three_services_and_all_that_they_need() -> None:
    others = {"mysql", "kafka", "qdrant", "prometheus", "grafana"}
    assert set(SERVICES) == {*PIXTAIL, *others}
    assert [SERVICES[name]["command"] for name in PIXTAIL] == [[name] for name in PIXTAIL]


@pytest.mark.parametrize("service", PIXTAIL)
def test_the_environment_of_a_service_names_only_settings_that_exist(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(service, monkeypatch, tmp_path)
    assert settings.source == "app.images"
    assert (settings.metrics.host, settings.api.host) == ("0.0.0.0", "0.0.0.0")


@pytest.mark.parametrize("service", PIXTAIL)
def test_every_server_that_a_service_is_told_of_is_one_of_the_stack(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(service, monkeypatch, tmp_path)
    hosts = [
        settings.mysql.address.host,
        settings.kafka.bootstrap.split(":")[0],
        urlsplit(settings.qdrant.url or "").hostname,
    ]
    assert hosts == ["mysql", "kafka", "qdrant"]


@pytest.mark.parametrize("service", ["encode", "serve"])
def test_the_pictures_are_mounted_where_the_settings_say_and_cannot_be_written(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = settings_of(service, monkeypatch, tmp_path).pictures.root
    assert f"${{PICTURES:-./pictures}}:{root}:ro" in SERVICES[service]["volumes"]


@pytest.mark.parametrize("service", PIXTAIL)
def test_a_service_is_healthy_when_its_own_port_says_so(service: str) -> None:
    assert SERVICES[service]["healthcheck"]["test"][-2:] == ["/opt/pixtail/healthcheck.py", str(PORTS[service])]


def test_every_service_has_a_health_check_and_starts_again() -> None:
    lacking = [name for name, body in SERVICES.items() if "healthcheck" not in body or "restart" not in body]
    assert lacking == []


def test_a_service_has_longer_to_stop_than_it_takes_to_drain() -> None:
    assert {SERVICES[name]["stop_grace_period"] for name in PIXTAIL} == {"30s"}


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for body in SERVICES.values() for port in body.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_every_variable_of_the_stack_stands_in_the_example_and_no_other() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert {found[1] for found in REFERENCE.finditer(text)} == set(example())


def test_a_password_has_no_default_in_the_stack() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    kinds = {found[1]: found[2] for found in REFERENCE.finditer(text) if "PASSWORD" in found[1]}
    assert kinds == dict.fromkeys(["MYSQL_ROOT_PASSWORD", "MYSQL_PIXTAIL_PASSWORD", "GRAFANA_PASSWORD"], "?")


def test_every_file_that_is_mounted_exists_and_every_volume_is_declared() -> None:
    mounts = [volume.split(":")[0] for body in SERVICES.values() for volume in body.get("volumes", [])]
    paths = [mount for mount in mounts if mount.startswith("./")]
    assert paths
    assert [path for path in paths if not (DEPLOY / path).exists()] == []
    assert {mount for mount in mounts if mount[0] not in ".$"} == set(COMPOSE["volumes"])


def test_every_image_that_is_not_built_here_is_pinned_to_a_version() -> None:
    images = [body["image"] for name, body in SERVICES.items() if name not in PIXTAIL]
    assert [image for image in images if not re.fullmatch(r"[\w/]+:v?\d+\.\d+(\.\d+)?", image)] == []


# Dockerfile


def test_the_image_names_no_address_but_its_base_image() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"python:3.12-slim"}
    assert "://" not in DOCKERFILE


def test_the_image_runs_as_an_ordinary_user_and_can_tell_its_health() -> None:
    instructions = re.findall(r"^(USER|HEALTHCHECK|ENTRYPOINT) (.*)$", DOCKERFILE.split("FROM ")[-1], re.MULTILINE)
    assert ("USER", "pixtail") in instructions
    assert ("ENTRYPOINT", '["pixtail"]') in instructions
    assert any(name == "HEALTHCHECK" and "healthcheck.py" in rest for name, rest in instructions)


def test_everything_the_image_copies_is_let_into_the_build_and_exists() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = set(itertools.chain.from_iterable(line.split() for line in copies))
    allowed = set(re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert sources == allowed
    assert [source for source in sources if not (DEPLOY.parent / source).exists()] == []


# Prometheus


def test_prometheus_scrapes_every_service_at_the_port_it_serves() -> None:
    (scrape,) = yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]
    targets = [target for entry in scrape["static_configs"] for target in entry["targets"]]
    assert targets == [f"{name}:{PORTS[name]}" for name in PIXTAIL]


def test_every_metric_in_the_rules_exists() -> None:
    known = set().union(*all_metrics().values()) | {name for name, _ in rule_queries() if ":" in name}
    assert {name: own_names(expr) - known for name, expr in rule_queries() if own_names(expr) - known} == {}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert all(alert["annotations"][part].endswith(".") for part in ("summary", "description", "runbook"))


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_an_alert_is_tested_both_silent_and_firing(alert: str) -> None:
    tests = yaml.safe_load(RULES.with_name("rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert {bool(case.get("exp_alerts")) for case in cases} == {False, True}


# Dashboard


def test_every_metric_on_the_dashboard_exists() -> None:
    known = set().union(*all_metrics().values())
    assert {title: own_names(expr) - known for title, expr in panel_queries() if own_names(expr) - known} == {}


def test_every_metric_that_is_measured_is_on_the_dashboard() -> None:
    shown = set().union(*(own_names(expr) for _, expr in panel_queries()))
    assert [metric for metric, series in all_metrics().items() if not series & shown] == []


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["description"].rstrip().endswith(".") or panel["description"].endswith("?")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_the_chosen_data_source_about_the_chosen_pipeline(panel: dict[str, Any]) -> None:
    sources = {source["uid"] for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"]))}
    assert sources == {"${datasource}"}
    unfiltered = [
        name
        for target in panel["targets"]
        for name, rest in re.findall(r"\b(pixtail_\w+|up\b)(.{0,30})", target["expr"])
        if 'job=~"$job"' not in rest
    ]
    assert unfiltered == []


def test_panels_have_titles_and_ids_of_their_own() -> None:
    titles, ids = [panel["title"] for panel in panels()], [panel["id"] for panel in panels()]
    assert (len(set(titles)), len(set(ids))) == (len(titles), len(ids))


def test_no_panel_lies_over_another() -> None:
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in panels()
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_grafana_finds_the_dashboard_and_the_data_source() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "pixtail.yml").read_text())["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    mount = f"./{DASHBOARD.parent.relative_to(DEPLOY)}:{provider['options']['path']}:ro"
    assert mount in SERVICES["grafana"]["volumes"]
    assert urlsplit(source["url"]).hostname in SERVICES
    assert source["jsonData"]["timeInterval"] == yaml.safe_load(PROMETHEUS.read_text())["global"]["scrape_interval"]
