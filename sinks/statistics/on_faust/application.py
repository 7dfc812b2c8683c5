"""Makes the Faust application, whose table says when a change of it is durable."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.tables.table import Table
from yarl import URL

from infra.broker.kafka.connection.link import Link
from infra.broker.settings import BrokerSettings
from schemas.topics import DETECTIONS, REDRIVE, TopicSpec
from sinks.statistics.on_faust.transport import FaustTransport, KeepingFlowControl
from sinks.statistics.settings import FAUST_GROUP

TABLE = "parts"
_SESSION_S = 10.0
# A change that cannot be sent is sent again for so long; its event is not acknowledged meanwhile.
_SEND_S = 86_400.0
_FETCH_MARGIN_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Says how Faust reaches Kafka."""

    settings: BrokerSettings
    ssl_context: ssl.SSLContext | None = None
    password: str | None = None
    instance_id: str | None = None
    """Makes the membership static, so that a restarted process takes its partitions back at once"""


def kafka_access(
    settings: BrokerSettings,
    topics: Mapping[str, TopicSpec],
    password_file: Path | None = None,
    instance_id: str | None = None,
) -> KafkaAccess:
    """Return the access of ``settings``; the password is read again. Raises SettingsError for a wrong certificate."""
    options: dict[str, Any] = Link(settings, topics, password_file).client_options()
    return KafkaAccess(settings, options["ssl_context"], options["sasl_plain_password"], instance_id)


class DurableTable(Table):
    """Keeps the future of its last change, which is done when the change is durable in Kafka."""

    last_change: asyncio.Future[Any] | None = None

    def send_changelog(self, *arguments: Any, **options: Any) -> Any:
        """See Faust."""
        self.last_change = super().send_changelog(*arguments, **options)
        return self.last_change


def make_application(access: KafkaAccess, topics: Mapping[str, TopicSpec], folder: Path) -> tuple[Any, Any, Any]:
    """Return the application, its topics and its table; nothing is connected yet. ``folder`` stays empty."""
    settings, detections = access.settings, topics[DETECTIONS]
    largest = max(topics[name].max_message_bytes for name in (DETECTIONS, REDRIVE))
    servers = [URL(f"kafka://{each.strip()}") for each in settings.bootstrap_servers.split(",")]
    app = faust.App(
        FAUST_GROUP,
        broker=servers,
        broker_credentials=_credentials(access),
        broker_session_timeout=_SESSION_S,
        broker_heartbeat_interval=_SESSION_S / 4,
        # A member that lives and does not join again holds the others up for so long.
        broker_rebalance_timeout=3 * _SESSION_S,
        broker_request_timeout=max(settings.request_timeout_s, _SESSION_S + 5.0),
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=access.instance_id or "",
        consumer_max_fetch_size=largest + _FETCH_MARGIN_BYTES,
        producer_acks=-1,
        producer_compression_type=None if settings.compression == "none" else settings.compression,
        producer_request_timeout=_SEND_S,
        topic_partitions=detections.partitions,
        topic_replication_factor=settings.replication or detections.replication,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        # A copy in memory would not be used: a table in memory is always read from the start.
        table_standby_replicas=0,
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        datadir=folder,
        web_enabled=False,
        autodiscover=False,
    )
    app.transport = FaustTransport(servers, app, loop=app.loop)
    app.flow_control = KeepingFlowControl()
    raw = {"key_type": bytes, "value_type": bytes}
    source = app.topic(DETECTIONS, REDRIVE, **raw)
    table = DurableTable(app, name=TABLE, partitions=detections.partitions, **raw)
    app.tables.add(table)
    return app, source, table


def _credentials(access: KafkaAccess) -> Any:
    settings = access.settings
    if settings.security_protocol.startswith("SASL_"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=access.password,
            mechanism=settings.sasl_mechanism,
            ssl_context=access.ssl_context,
        )
    return None if access.ssl_context is None else faust.SSLCredentials(context=access.ssl_context)
