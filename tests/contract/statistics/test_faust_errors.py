"""Faust is started again after an error, and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.deploy.kafka import KafkaServer
from schemas.topics import load_topics
from standgale.testing.factories import out_record
from standgale.testing.waiting import until
from tests.contract.statistics.test_counting import FaustSite, is_right, windows_of
from tests.servers.kafka import kafka_settings

pytestmark = pytest.mark.integration

pytest.importorskip("faust")


@pytest.fixture
async def site(kafka_server: KafkaServer) -> AsyncIterator[FaustSite]:
    topics = load_topics()
    settings = kafka_settings(kafka_server)
    broker = KafkaBroker(settings, topics)
    admin = await broker.admin()
    await admin.apply(list(topics.values()))
    await admin.close()
    yield FaustSite(broker, settings)
    await broker.close()


async def test_an_error_while_counting_starts_faust_again_and_loses_nothing(
    site: FaustSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sinks.statistics.on_faust import counting

    calls = 0

    def failing_once(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise RuntimeError("a defect")
        return real(*arguments)

    real = counting.count_in_part
    monkeypatch.setattr(counting, "count_in_part", failing_once)
    events = site.events(60)
    await site.publish([out_record(event) for event in events])
    async with site.counting() as health:
        await until(partial(is_right, site, windows_of(events)), lambda: str(health.report()), timeout_s=60.0)
    assert calls > 60
