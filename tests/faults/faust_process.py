"""Runs the statistics of Faust in a process of its own, to be killed."""

from __future__ import annotations

import asyncio

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.settings import BrokerSettings
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.topics import load_topics
from sinks.statistics.settings import StatisticsSettings


def run(settings: BrokerSettings) -> None:
    """Count until the process is killed."""
    asyncio.run(_run(settings))


async def _run(settings: BrokerSettings) -> None:
    # Faust is an extra.
    from sinks.statistics.on_faust.application import kafka_access
    from sinks.statistics.on_faust.component import StatisticsOnFaust

    topics = load_topics()
    component = StatisticsOnFaust(
        KafkaBroker(settings, topics),
        lambda: kafka_access(settings, topics, instance_id="counting-1"),
        topics,
        StatisticsSettings(publish_s=0.1),
        RetrySettings(first_delay_s=0.01, max_delay_s=0.1),
    )
    await component.run(asyncio.Event(), Health().part(component.name))
