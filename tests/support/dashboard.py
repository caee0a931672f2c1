"""Asks a Prometheus the questions that dashboard and rules ask, to prove that they are valid and answered.

`config` is deploy/prometheus/prometheus.yml with nothing but the targets (and, if wanted, the pace) replaced.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "pixtail.json"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
RULES = DEPLOY / "prometheus" / "rules.yml"

POLL_S = 0.05
_ANSWER_LIMIT_S = 10
_VARIABLES = {"$__rate_interval": "1m", "$job": ".+"}
"""What Grafana would put in for a scrape interval up to 15 s and the pipeline "All"."""


def panels(path: Path = DASHBOARD) -> list[dict[str, Any]]:
    """The dashboard's panels in order, those inside collapsed rows too, rows left out."""
    return [panel for panel in _walk(json.loads(path.read_text())["panels"]) if panel["type"] != "row"]


def panel_queries(path: Path = DASHBOARD) -> list[tuple[str, str]]:
    """Panel title and PromQL of every query, variables filled in."""
    return [(panel["title"], _filled(target["expr"])) for panel in panels(path) for target in panel["targets"]]


def rule_queries(path: Path = RULES) -> list[tuple[str, str]]:
    """Name of the recorded series or alert, and PromQL, of every rule."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [(rule.get("record") or rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


def config(targets: Sequence[str], interval: str | None = None) -> str:
    """The deployed prometheus.yml, scraping `targets` (host:port); `interval` ("500ms") quickens it for a short test."""
    body = yaml.safe_load(PROMETHEUS.read_text())
    body["rule_files"] = [str(PROMETHEUS.parent / name) for name in body["rule_files"]]
    (scrape,) = body["scrape_configs"]
    scrape["static_configs"] = [{"targets": list(targets)}]
    if interval:
        body["global"] |= {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    return str(yaml.safe_dump(body))


def query(prometheus_url: str, expr: str) -> list[dict[str, Any]]:
    """The series that `expr` gives now; NaN (a quantile of nothing) counts as none. Fails if `expr` is not valid."""
    answer = httpx.get(
        f"{prometheus_url}/api/v1/query", params={"query": expr}, timeout=_ANSWER_LIMIT_S, trust_env=False
    ).json()
    assert answer["status"] == "success", f"{expr}\n  {answer.get('errorType')}: {answer.get('error')}"
    assert not answer.get("warnings"), f"{expr}\n  {answer['warnings']}"
    assert answer["data"]["resultType"] == "vector", f"{expr} is a {answer['data']['resultType']}, no set of series"
    return [series for series in answer["data"]["result"] if series["value"][1] != "NaN"]


def panels_without_data(prometheus_url: str, path: Path = DASHBOARD) -> set[str]:
    """Titles of the panels of which a query gives nothing now. Fails at the first query that is not valid."""
    return {title for title, expr in panel_queries(path) if not query(prometheus_url, expr)}


def wait_for(prometheus_url: str, expr: str, timeout_s: float = 30) -> list[dict[str, Any]]:
    """The series of `expr` as soon as there are any. Fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (found := query(prometheus_url, expr)):
        assert time.monotonic() < deadline, (
            f"no data for {expr} after {timeout_s} s; {_state_of_targets(prometheus_url)}"
        )
        time.sleep(POLL_S)
    return found


def wait_for_scrapes(prometheus_url: str, times: int = 3, timeout_s: float = 30) -> None:
    """Until every target was scraped `times` times: from the second one on, rates have data."""
    wait_for(prometheus_url, f"min(sum_over_time(up[5m])) >= {times}", timeout_s)


def _walk(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield entry
        yield from _walk(entry.get("panels", []))


def _filled(expr: str) -> str:
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    assert not re.search(r"\$\w", expr), f"a variable that this module does not know, in {expr}"
    return expr


def _state_of_targets(prometheus_url: str) -> list[str]:
    answer = httpx.get(f"{prometheus_url}/api/v1/targets", timeout=_ANSWER_LIMIT_S, trust_env=False).json()
    return [f"{t['scrapeUrl']}: {t['health']} {t['lastError']}".strip() for t in answer["data"]["activeTargets"]]
