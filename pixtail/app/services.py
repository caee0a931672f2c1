"""The long-running commands: `listen`, `encode`, `serve` and `run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pixtail.app.child import ListenerProcess, stop_with_parent
from pixtail.app.health import HealthService
from pixtail.app.pipeline import PipelineWatch
from pixtail.app.wiring import Station, needs, not_ready, opened_store, station
from pixtail.bus.consumer import ChangeConsumer
from pixtail.bus.dead_letters import DeadLetters
from pixtail.bus.inspection import describe_broker, lane_group
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.lifecycle import Service, Stop, run_services, stop_on_signals
from pixtail.core.metrics import Metrics
from pixtail.core.settings import Settings

if TYPE_CHECKING:
    from pixtail.search.service import ApiService

OnLostPosition: TypeAlias = Literal["stop", "snapshot"]


def listen(settings: Settings, with_parent: bool, on_lost_position: OnLostPosition) -> None:
    """The listener and its health page, until a signal. What is wrong or away at the start ends it; later outages are lived through."""
    with needs("listen"):
        from ingest.listener import Listener
    stop, metrics = _stop(with_parent), Metrics()
    listener = Listener(settings, metrics, on_lost_position=on_lost_position)
    listener.check()
    describe_broker(settings.kafka)
    run_services([listener, _health(settings, metrics, [listener])], stop)


def encode(settings: Settings) -> None:
    """The worker and its health page, until a signal."""
    stop, metrics = _stop(), Metrics()
    describe_broker(settings.kafka)
    with opened_store(settings, metrics) as store, station(settings, store, metrics) as parts:
        worker = _worker(parts)
        run_services([worker, _health(settings, metrics, [worker])], stop)


def serve(settings: Settings) -> None:
    """The API and the console, until a signal. Searching needs no Kafka: it may be away."""
    stop, metrics = _stop(), Metrics()
    with opened_store(settings, metrics, _api_address(settings)) as store, station(settings, store, metrics) as parts:
        watch = PipelineWatch(settings)
        run_services([watch, _api(parts, watch, [])], stop)


def run(settings: Settings, config: Path | None, with_parent: bool, on_lost_position: OnLostPosition) -> None:
    """Everything on one machine, until a signal: the listener as a child process, worker and API in this one.

    The listener starts once the store is ours, not before: a second `run` by mistake must not fence the first one's listener. It reads
    the snapshot while the model is loading.
    """
    with needs("listen"):
        from ingest import preflight
    stop, metrics = _stop(with_parent), Metrics()
    preflight.require(settings)
    describe_broker(settings.kafka)
    with (
        opened_store(settings, metrics, _api_address(settings)) as store,
        ListenerProcess(config, on_lost_position) as listener,
        station(settings, store, metrics) as parts,
    ):
        worker, watch = _worker(parts), PipelineWatch(settings)
        run_services([listener, worker, watch, _api(parts, watch, [listener, worker])], stop)


def _stop(with_parent: bool = False) -> Stop:
    stop = Stop()
    stop_on_signals(stop)
    if with_parent:
        stop_with_parent(stop)
    return stop


def _health(settings: Settings, metrics: Metrics, services: list[Service]) -> HealthService:
    return HealthService(settings.metrics, metrics, lambda: not_ready(services))


def _worker(parts: Station) -> Service:
    from encoder.worker import Worker

    settings = parts.settings
    topics = Topics(settings.kafka.prefix, settings.source)
    ensure_topics(settings.kafka, topics)
    return Worker(
        topic=topics.changes,
        live=ChangeConsumer(settings.kafka, topics.changes, lane_group(topics, "live"), "live"),
        backlog=ChangeConsumer(settings.kafka, topics.changes, lane_group(topics, "backlog"), "backlog"),
        dead_letters=DeadLetters(settings.kafka, topics),
        store=parts.store,
        pictures=parts.pictures,
        embedder=parts.model,
        table=settings.table,
        model=settings.model,
        metrics=parts.metrics,
    )


def _api(parts: Station, watch: PipelineWatch, services: list[Service]) -> ApiService:
    with needs("serve"):
        from pixtail.search.api import create_app
        from pixtail.search.deps import Deps
        from pixtail.search.service import ApiService
    from encoder.decode import thumbnail

    deps = Deps(
        store=parts.store,
        embedder=parts.model,
        pictures=parts.pictures,
        thumbnail=partial(thumbnail, max_pixels=parts.settings.pictures.max_pixels),
        metrics=parts.metrics,
        settings=parts.settings,
        ready=lambda: not_ready(services),
        pipeline=watch.facts,
        failures=watch.failures,
    )
    return ApiService(create_app(deps), parts.settings.api)


def _api_address(settings: Settings) -> str:
    """How other processes of this machine reach the API, for those that find the embedded store open."""
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "") else settings.api.host
    return f"http://{host}:{settings.api.port}"
