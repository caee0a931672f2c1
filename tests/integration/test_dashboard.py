"""A real Prometheus with the deployed configuration answers every question that the dashboard and the rules ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pixtail.core.metrics import Metrics
from pixtail.servers.parts import Part
from pixtail.servers.prometheus import PrometheusServer
from tests.support.dashboard import (
    config,
    panel_queries,
    panels_without_data,
    query,
    rule_queries,
    wait_for,
    wait_for_scrapes,
)


def observe(metrics: Metrics) -> None:
    """A little of everything that the stations measure: called at each scrape, so that every rate has something to rise on."""
    metrics.events.labels("c").inc()
    metrics.listener_lag.set(0.2)
    metrics.listener_up.set(1)
    metrics.listener_seq.set(1_790_000_000_000 << 10)
    metrics.snapshot_rows.inc(100)
    metrics.consumer_lag.labels("0").set(3)
    metrics.freshness.observe(0.12)
    for stage in ("fetch", "decode", "encode", "apply"):
        metrics.stage.labels(stage).observe(0.03)
    metrics.batch_images.observe(12)
    metrics.images.labels("encoded").inc(12)
    metrics.bytes_fetched.inc(120_000)
    metrics.dlq_open.labels("corrupt").set(2)
    metrics.dlq.labels("corrupt").inc()
    metrics.store.labels("apply").observe(0.004)
    metrics.store_errors.labels("store_unreachable").inc()
    metrics.points.set(42)
    metrics.drift.labels("missing").set(1)  # an alert without delay, so that the panel of alerts has data as well
    metrics.search.labels("text").observe(0.02)
    metrics.search.labels("image").observe(0.05)
    metrics.model_info.labels("tiny-clip", "0123456789ab", "512").set(1)


class Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    observe: staticmethod[[Metrics], None]

    def do_GET(self) -> None:
        self.observe(self.metrics)
        body, content_type = self.metrics.exposition(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: a scrape is no news."""


@contextmanager
def exporter(observe: Callable[[Metrics], None]) -> Iterator[str]:
    """The metrics of a process as it serves them; yields host:port."""
    handler = type("OneExporter", (Handler,), {"metrics": Metrics(), "observe": staticmethod(observe)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(needs: Callable[[Part], Path]) -> Iterator[PrometheusServer]:
    """Scrapes a process that does everything and one, as in a larger deployment, that does nothing."""
    needs(Part.PROMETHEUS)
    with (
        exporter(observe) as busy,
        exporter(lambda metrics: None) as idle,
        PrometheusServer(config([busy, idle], interval="500ms")) as server,
    ):
        wait_for_scrapes(server.url)
        yield server


def test_every_panel_has_data_when_everything_is_measured(prometheus: PrometheusServer) -> None:
    wait_for(prometheus.url, 'ALERTS{alertstate="firing"}')
    assert panels_without_data(prometheus.url) == set()


def test_every_rule_is_a_valid_query_and_every_recorded_series_exists(prometheus: PrometheusServer) -> None:
    rules = rule_queries()
    assert len(rules) > 10
    for name, expr in rules:
        query(prometheus.url, expr)
        if ":" in name:
            wait_for(prometheus.url, name)


def test_a_process_that_measures_nothing_hides_nothing_of_the_one_that_does(prometheus: PrometheusServer) -> None:
    values = {title: query(prometheus.url, expr) for title, expr in panel_queries() if title in ("Listener", "Points")}
    shown = {title: [float(series["value"][1]) for series in result] for title, result in values.items()}
    assert shown == {"Listener": [1.0], "Points": [42.0]}


def test_a_panel_whose_metric_nobody_exports_is_noticed(prometheus: PrometheusServer, tmp_path: Path) -> None:
    dashboard = tmp_path / "dashboard.json"
    dashboard.write_text('{"panels": [{"title": "Typo", "type": "stat", "targets": [{"expr": "pixtail_pionts"}]}]}')
    assert panels_without_data(prometheus.url, dashboard) == {"Typo"}


def test_a_query_that_is_not_valid_fails_with_its_text(prometheus: PrometheusServer) -> None:
    with pytest.raises(AssertionError, match=r"sum\(pixtail_points\n"):
        query(prometheus.url, "sum(pixtail_points")
