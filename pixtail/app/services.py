"""The long-running commands: `listen`, `encode`, `serve` and `run`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from pixtail.app.child import ListenerProcess, stop_with_parent
from pixtail.app.following import Following, FollowingWorker, Generation, open_generation, worker_of
from pixtail.app.health import HealthService
from pixtail.app.jobs import Job
from pixtail.app.pipeline import PipelineWatch
from pixtail.app.wiring import needs, not_ready, opened_index
from pixtail.bus.inspection import describe_broker
from pixtail.bus.topics import Topics, ensure_topics
from pixtail.core.lifecycle import Service, Stop, run_services, stop_on_signals
from pixtail.core.metrics import Metrics
from pixtail.core.ports import Index, PictureSource
from pixtail.core.settings import Settings

if TYPE_CHECKING:
    from pixtail.search.service import ApiService

OnLostPosition: TypeAlias = Literal["stop", "snapshot"]


def listen(settings: Settings, with_parent: bool, on_lost_position: OnLostPosition) -> None:
    """The listener, one more for each table that is looked up, and their health page, until a signal. What is wrong or away at the start
    ends it; later outages are lived through."""
    with needs("listen"):
        from ingest.listener import Listener
    stop, metrics = _stop(with_parent), Metrics()
    listeners = [Listener(settings, metrics, on_lost_position=on_lost_position)]
    # With metrics of their own, which nobody sees: the lag and the seq that are shown are the pictures'.
    listeners += [Listener(one, Metrics(), on_lost_position=on_lost_position) for one in settings.of_lookups]
    for listener in listeners:
        listener.check()
    describe_broker(settings.kafka)
    run_services([*listeners, _health(settings, metrics, listeners)], stop)


def encode(settings: Settings) -> None:
    """The worker and its health page, until a signal."""
    stop, metrics = _stop(), Metrics()
    describe_broker(settings.kafka)
    with opened_index(settings) as index, station(settings, index, metrics) as parts:
        worker = _worker(parts)
        run_services([parts.following, worker, _health(settings, metrics, [parts.following, worker])], stop)


def serve(settings: Settings) -> None:
    """The API and the console, until a signal. Searching needs no Kafka: it may be away."""
    stop, metrics = _stop(), Metrics()
    with opened_index(settings, _api_address(settings)) as index, station(settings, index, metrics) as parts:
        watch, jobs = _watch(parts), _jobs(parts)
        run_services([parts.following, watch, *jobs, _api(parts, watch, jobs, [parts.following])], stop)


def run(settings: Settings, config: Path | None, with_parent: bool, on_lost_position: OnLostPosition) -> None:
    """Everything on one machine, until a signal: the listener as a child process, worker and API in this one.

    The listener starts once the store is ours, not before: a second `run` by mistake must not fence the first one's listener. It reads
    the snapshot while the model is loading.
    """
    with needs("listen"):
        from ingest import preflight
    stop, metrics = _stop(with_parent), Metrics()
    for one in (settings, *settings.of_lookups):
        preflight.require(one)
    describe_broker(settings.kafka)
    with (
        opened_index(settings, _api_address(settings)) as index,
        ListenerProcess(config, on_lost_position) as listener,
        station(settings, index, metrics) as parts,
    ):
        worker, watch, following = _worker(parts), _watch(parts), parts.following
        jobs = _jobs(parts, settings.verify.every_s)
        api = _api(parts, watch, jobs, [listener, following, worker])
        run_services([listener, following, worker, watch, *jobs, api], stop)


@dataclass(frozen=True, slots=True)
class Station:
    """What `encode`, `serve` and `run` share: the index and its model, the pictures, the metrics."""

    settings: Settings
    following: Following
    pictures: PictureSource
    metrics: Metrics


@contextmanager
def station(settings: Settings, index: Index, metrics: Metrics) -> Iterator[Station]:
    """With the model loaded and the store prepared for it. Raises as `open_generation`."""
    with needs("encode"):
        from encoder.pictures import Pictures
    first = open_generation(settings, index, metrics, index.current())
    with closing(Pictures(settings.pictures)) as pictures:
        yield Station(settings, Following(settings, index, metrics, first), pictures, metrics)


def _stop(with_parent: bool = False) -> Stop:
    stop = Stop()
    stop_on_signals(stop)
    if with_parent:
        stop_with_parent(stop)
    return stop


def _health(settings: Settings, metrics: Metrics, services: Sequence[Service]) -> HealthService:
    return HealthService(settings.metrics, metrics, lambda: not_ready(services))


class Jobs(NamedTuple):
    """What takes long, and is done when it is asked for."""

    verify: Job
    reindex: Job


def _jobs(parts: Station, verify_every_s: float | None = None) -> Jobs:
    from pixtail.app.reindex.service import reindex_job
    from pixtail.app.verify.service import verify_job

    return Jobs(
        verify_job(parts.settings, parts.following, parts.metrics, verify_every_s),
        reindex_job(parts.settings, parts.following, parts.pictures),
    )


def _watch(parts: Station) -> PipelineWatch:
    return PipelineWatch(parts.settings, lambda: parts.following.current.name)


def _worker(parts: Station) -> FollowingWorker:
    settings = parts.settings
    topics = Topics(settings.kafka.prefix, settings.source)
    ensure_topics(settings.kafka, topics)
    return FollowingWorker(parts.following, partial(worker_of, settings, topics, parts.pictures, parts.metrics))


def _api(parts: Station, watch: PipelineWatch, jobs: Jobs, services: list[Service]) -> ApiService:
    with needs("serve"):
        from pixtail.search.api import create_app
        from pixtail.search.deps import Deps
        from pixtail.search.service import ApiService
    from encoder.decode import thumbnail
    from pixtail.app.reindex.service import rolled_back

    current = parts.following.current
    app = create_app(
        Deps(
            store=current.store,
            embedder=current.model,
            pictures=parts.pictures,
            thumbnail=partial(thumbnail, max_pixels=parts.settings.pictures.max_pixels),
            metrics=parts.metrics,
            settings=parts.settings,
            ready=lambda: not_ready(services),
            pipeline=watch.facts,
            failures=watch.failures,
            verification=jobs.verify,
            reindexing=jobs.reindex,
            rollback=partial(rolled_back, parts.following),
        )
    )

    def move(generation: Generation) -> None:  # each request takes the one or the other as a whole
        app.state.deps = replace(app.state.deps, store=generation.store, embedder=generation.model)

    parts.following.on_move(move)
    return ApiService(app, parts.settings.api)


def _api_address(settings: Settings) -> str:
    """How other processes of this machine reach the API, for those that find the embedded store open."""
    host = "127.0.0.1" if settings.api.host in ("0.0.0.0", "") else settings.api.host
    return f"http://{host}:{settings.api.port}"
