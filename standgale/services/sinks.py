"""Builds the sinks of a process, and names those that `standgale sink` can run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.consuming.consumer_loop import SinkRunner, group_of
from infra.consuming.gathering import Gathering
from infra.consuming.port import Sink
from infra.consuming.settings import BatchSettings
from infra.encryption.box import SecretBox
from infra.errors import SettingsError
from infra.plugin_names import plugin_names, warn_of_hidden_plugins
from infra.process.components import Component
from infra.process.http_server import HttpComponent
from infra.process.settings_sources import secret_file
from schemas import topics
from schemas.topics import TopicSpec
from sinks.annotations.returned import ReturnedAnnotations
from sinks.annotations.sink import AnnotationsSink
from sinks.lakefs.gathering import CommitGathering
from sinks.lakefs.open import open_archive
from sinks.lakefs.removal import ArchivedFrames
from sinks.lakefs.settings import MOST_RECORDS
from sinks.lakefs.sink import ArchiveSink
from sinks.mqtt.sink import MqttSink
from sinks.mqtt.tls import load_tls
from sinks.postgres.archive import ArchiveCommits, PendingCommits
from sinks.postgres.failed_frames import FailedFrames
from sinks.postgres.flights import ArrivedFrames
from sinks.postgres.jobs import JobFailures
from sinks.postgres.sink import PostgresSink
from sinks.postgres.system_metrics import SystemMetrics
from sinks.retention.worker import RetentionWorker
from sinks.sse.access.access import StreamAccess
from sinks.sse.access.owners import DatabaseOwners
from sinks.sse.access.stream_tokens import StreamTokens
from sinks.sse.http import create_sse_app
from sinks.sse.hub import DetectionHub
from sinks.sse.pictures.addresses import PictureAddresses
from sinks.statistics.counter import StatisticsCounter
from sinks.statistics.forgetting import StatisticsForgetting
from sinks.statistics.publisher import StatisticsPublisher
from sinks.statistics.settings import FAUST_GROUP
from sinks.statistics.table import StatisticsTable
from sinks.webhooks.intake import DetectionWebhooks, JobWebhooks
from sinks.webhooks.sender import WebhookSender
from standgale.plugins import SINK_PLUGINS, make_sink
from standgale.services.composition import Composition
from standgale.services.drawn_frames import FrameDrawer
from standgale.services.publishing import PublishingComponent
from standgale.settings import Settings

logger = logging.getLogger(__name__)


def make_postgres_sinks(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the components that write detections, and the frames of flights, to PostgreSQL."""
    database = process.database()
    sinks: tuple[Sink[Any], ...] = (
        PostgresSink(database),
        ArrivedFrames(database),
        FailedFrames(database),
        JobFailures(database),
        ArchiveCommits(database),
    )
    runners = [_make_runner(process, sink, instance_id) for sink in sinks]
    pending = PendingCommits(database, process.topics[topics.DETECTIONS].retention_s, process.settings.retry)
    return [*runners, pending, make_system_metrics(process)]


def make_system_metrics(process: Composition) -> Component:
    """Make the component that keeps the metrics of this process in the database."""
    settings = process.settings
    return SystemMetrics(process.database(), settings.system_metrics, settings.retry, process.service)


def make_archive_sink(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the component that archives frames in LakeFS or in a folder."""
    settings = process.settings.lakefs
    archive = open_archive(settings, process.settings.data_dir, process.store())
    drawer = FrameDrawer(process.store(), process.settings.detector.max_pixels) if settings.drawn else None
    sink = ArchiveSink(
        archive,
        process.broker(),
        frames_per_commit=settings.frames_per_commit,
        jobs=settings.jobs,
        draw=None if drawer is None else drawer.draw,
    )
    batches = process.settings.sinks.model_copy(
        update={"batch_records": MOST_RECORDS, "batch_wait_s": settings.batch_timeout_s}
    )
    return [_make_runner(process, sink, instance_id, batches, CommitGathering(settings.frames_per_commit))]


def make_sink_components(process: Composition, name: str, instance_id: str | None) -> list[Component]:
    """Make the components of the sink ``name``: one of SINKS, or a plug-in."""
    warn_of_hidden_plugins(SINK_PLUGINS, tuple(SINKS))
    if name in SINKS:
        return SINKS[name].make(process, instance_id)
    return [_make_runner(process, make_sink(name, process.topics), instance_id)]


def sink_names() -> list[str]:
    """Return the names that `standgale sink` takes: the sinks that ship, then the plug-ins."""
    return [*SINKS, *(name for name in plugin_names(SINK_PLUGINS) if name not in SINKS)]


def sink_groups(name: str, settings: Settings, declared: Mapping[str, TopicSpec]) -> dict[str, tuple[str, ...]]:
    """Return the consumer groups that the sink ``name`` has with ``settings``, with the topics that each reads.

    None for the live stream. Raises SettingsError for a plug-in that cannot be loaded.
    """
    if name == "statistics" and settings.statistics.engine == "faust":
        return {FAUST_GROUP: (topics.DETECTIONS,), group_of(StatisticsTable.name): StatisticsTable.topics}
    parts = SINKS[name].parts if name in SINKS else (make_sink(name, declared),)
    return {group_of(part.name): part.topics for part in parts}


def _make_runner(
    process: Composition,
    sink: Sink[Any],
    instance_id: str | None,
    batches: BatchSettings | None = None,
    gathering: Gathering | None = None,
) -> Component:
    return SinkRunner(
        sink,
        process.broker(),
        batches=batches or process.settings.sinks,
        retry=process.settings.retry,
        instance_id=instance_id,
        gathering=gathering,
    )


def make_hub(process: Composition) -> DetectionHub:
    """Make the component that reads detections for the live stream."""
    settings = process.settings
    grown_from = process.topics[topics.DETECTIONS].grown_from
    return DetectionHub(
        process.broker(),
        settings.sse,
        settings.retry,
        grown_from=grown_from,
        address_share=settings.http.address_share,
        pictures=PictureAddresses(_picture_box(process), settings.sse.image_lifetime_s),
    )


def _picture_box(process: Composition) -> SecretBox | None:
    """Return what signs the addresses of pictures; None where there is no key, and no place to keep one."""
    try:
        return process.box()
    except SettingsError as error:
        if process.settings.encryption.keys:
            raise
        logger.warning("addresses of pictures in the live stream are valid at this process only: %s", error)
        return None


def make_stream_access(process: Composition) -> StreamAccess:
    """Make what knows who may follow the live stream, of a process that reads API keys."""
    sse = process.settings.sse
    tokens = StreamTokens(process.box(), sse.token_lifetime_s)
    return StreamAccess(sse, process.keys(), DatabaseOwners(process.database()), tokens)


def _make_sse(process: Composition, instance_id: str | None) -> list[Component]:
    del instance_id  # Every process sees all detections; there is no group to be a member of.
    settings = process.settings
    hub = make_hub(process)
    # An open stream needs no database.
    has_keys = settings.sse.access == "keys"
    access = make_stream_access(process) if has_keys else StreamAccess(settings.sse)
    app = create_sse_app(hub, settings.sse, access, process.store())
    return [
        *([process.keys()] if has_keys else []),
        hub,
        HttpComponent(
            "sse",
            app,
            host=settings.sse.host,
            port=settings.sse.port,
            http=settings.http.with_streams(settings.sse.max_clients),
            drain_timeout_s=settings.telemetry.drain_timeout_s,
        ),
    ]


def make_webhook_sinks(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the components that find out whom to call, and the one that calls."""
    settings, database = process.settings, process.database()
    sinks: tuple[Sink[Any], ...] = (
        JobWebhooks(database, settings.webhooks),
        DetectionWebhooks(database, settings.webhooks),
    )
    sender = WebhookSender(database, process.box(), settings.webhooks, settings.retry)
    return [*(_make_runner(process, sink, instance_id) for sink in sinks), sender]


def make_statistics_sinks(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the components that count detections, publish what they counted, and keep it in tables."""
    settings, database = process.settings, process.database()
    counting: list[Component]
    if settings.statistics.engine == "faust":
        # Imported here, because it needs the extra "faust".
        from sinks.statistics.on_faust.application import kafka_access  # noqa: PLC0415
        from sinks.statistics.on_faust.component import StatisticsOnFaust  # noqa: PLC0415

        password_file = secret_file("broker.sasl_password")
        counting = [
            StatisticsOnFaust(
                process.broker(),
                lambda: kafka_access(settings.broker, process.topics, password_file, instance_id),
                process.topics,
                settings.statistics,
                settings.retry,
            )
        ]
    else:
        counting = [
            _make_runner(process, StatisticsCounter(database), instance_id),
            PublishingComponent(
                "statistics-publisher",
                process,
                lambda publisher: StatisticsPublisher(database, publisher, settings.statistics, settings.retry),
            ),
        ]
    return [
        *counting,
        _make_runner(process, StatisticsTable(database), instance_id),
        StatisticsForgetting(
            database, settings.statistics, process.topics[topics.DETECTIONS].retention_s, settings.retry
        ),
    ]


def make_retention(process: Composition, instance_id: str | None = None) -> list[Component]:
    """Make the component that removes frames."""
    del instance_id  # A lease in the database says which process removes.
    settings = process.settings
    archive = ArchivedFrames(lambda: open_archive(settings.lakefs, settings.data_dir, process.store()))
    return [
        RetentionWorker(
            process.broker(), process.store(), process.database(), settings.retention, settings.retry, archive
        )
    ]


def make_annotations_sink(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the components that post what is found in media, and store the annotations that come back."""
    settings, database = process.settings, process.database()
    own = settings.annotations
    sink = AnnotationsSink(database, process.store(), process.box(), own, settings.media.annotations_url)
    returned = ReturnedAnnotations(database, own.store_interval_s, settings.retry)
    return [_make_runner(process, sink, instance_id), returned]


def make_mqtt_sink(process: Composition, instance_id: str | None) -> list[Component]:
    """Make the component that publishes to the MQTT broker. Raises SettingsError for unusable certificates."""
    settings = process.settings.mqtt
    sink = MqttSink(
        settings,
        tls=load_tls(settings),
        instance_id=instance_id,
        password_file=secret_file("mqtt.password"),
        health=process.health.part(group_of(MqttSink.name)),
    )
    return [_make_runner(process, sink, instance_id)]


@dataclass(frozen=True, slots=True)
class ShippedSink:
    """Describes a sink that ships: what makes its components, and the sinks that they run."""

    make: Callable[[Composition, str | None], list[Component]]
    parts: tuple[type[Sink[Any]], ...] = ()
    """Each is a consumer group; none: it reads without one. Faust counts in a group of its own (:func:`sink_groups`)"""


SINKS: dict[str, ShippedSink] = {
    "postgres": ShippedSink(
        make_postgres_sinks, (PostgresSink, ArrivedFrames, FailedFrames, JobFailures, ArchiveCommits)
    ),
    "sse": ShippedSink(_make_sse),
    "lakefs": ShippedSink(make_archive_sink, (ArchiveSink,)),
    "retention": ShippedSink(make_retention),
    "annotations": ShippedSink(make_annotations_sink, (AnnotationsSink,)),
    "mqtt": ShippedSink(make_mqtt_sink, (MqttSink,)),
    "webhooks": ShippedSink(make_webhook_sinks, (JobWebhooks, DetectionWebhooks)),
    "statistics": ShippedSink(make_statistics_sinks, (StatisticsCounter, StatisticsTable)),
}
"""The sinks that ship, for `standgale sink NAME`; others are plug-ins, see docs/write-a-sink.md."""
