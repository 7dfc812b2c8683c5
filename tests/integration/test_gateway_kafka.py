"""The gateway on a real Kafka whose topic goes away: it goes on, says so, and is ready again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.broker.kafka.adapter import KafkaBroker
from infra.deploy.kafka import KafkaServer
from infra.settings import BrokerSettings, GatewaySettings
from schemas.topics import FRAMES_LIVE, PROBES, load_topics
from tests.support_gateway import jpeg, running

pytestmark = pytest.mark.integration

PATIENCE_S = 60.0


async def test_a_topic_that_goes_away_and_comes_back(kafka_server: KafkaServer, tmp_path: Path) -> None:
    declared = {name: spec for name, spec in load_topics().items() if name in (FRAMES_LIVE, PROBES)}
    settings = BrokerSettings(
        kind="kafka", bootstrap_servers=kafka_server.bootstrap_servers, replication=1, request_timeout_s=3
    )
    broker = KafkaBroker(settings, declared)
    admin = await broker.admin()
    deleting = AIOKafkaAdminClient(bootstrap_servers=kafka_server.bootstrap_servers)
    await deleting.start()
    try:
        await admin.apply(declared.values())
        quick = GatewaySettings(publish_timeout_s=3, probe_interval_s=0.2, recovery_s=0.5)
        async with running(tmp_path, quick, broker=broker, ahead_s=None, probed=True) as gateway:
            report = gateway.health.report
            await until(lambda: report().ready)
            assert (await gateway.send()).status == 202

            await deleting.delete_topics([FRAMES_LIVE])
            await until(lambda: "TOPIC_MISMATCH" in (report().parts["broker"].reason or ""))
            answer = await gateway.send(jpeg(seed=2))
            assert answer.status == 503
            assert answer.json["error_code"] in ("TOPIC_MISMATCH", "BROKER_UNAVAILABLE")

            await admin.apply(declared.values())
            await until(lambda: report().ready)
            assert (await gateway.send(jpeg(seed=2))).status == 202
            assert report().ready
    finally:
        await deleting.close()
        await admin.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 (health has nothing to wait for)
            await asyncio.sleep(0.05)
