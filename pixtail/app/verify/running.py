"""A verification over the servers of the settings."""

from __future__ import annotations

from contextlib import closing

from encoder.lookups import Lookups
from ingest.tablerows import TableRows
from pixtail.app.following import lookup_topics
from pixtail.app.jobs import Show
from pixtail.app.verify.options import Options
from pixtail.app.verify.pipeline import Pipeline
from pixtail.app.verify.report import Report
from pixtail.app.verify.verifier import Verifier
from pixtail.bus.topics import Topics
from pixtail.core.lifecycle import Stop
from pixtail.core.ports import VectorStore
from pixtail.core.settings import Settings


def verified(
    settings: Settings, store: VectorStore, generation: str, model: str, options: Options, show: Show, stop: Stop
) -> Report:
    """What one found. `store` is that of the generation; `model` is the fingerprint that its points should have.

    Raises `ServerUnreachable`, `SettingError`; `Stopping` when it is time to stop.
    """
    topics = Topics(settings.kafka.prefix, settings.source)
    lookups = Lookups(settings.table, lookup_topics(settings, topics, generation))
    with Pipeline(settings, generation, options, stop) as pipeline, closing(lookups):
        lookups.open()
        verifier = Verifier(
            table=settings.table,
            rows=TableRows(settings, options.chunk_rows),
            store=store,
            model=model,
            pipeline=pipeline,
            show=show,
            stop=stop,
            lookups=lookups,
        )
        return verifier.run(options)
