"""Faust is started again after an error, and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.deploy.kafka import KafkaServer
from infra.failure.retry import ConsumerContext
from infra.failure.settings import RetrySettings
from infra.process.health import Health
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
    site = FaustSite(broker, settings)
    yield site
    await site.close()


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


@pytest.mark.parametrize(("is_read", "wrong"), [(False, "table is not read"), (True, "no event was counted")])
async def test_a_member_that_does_not_go_on_is_started_again(
    is_read: bool, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sinks.statistics.on_faust import component
    from sinks.statistics.on_faust.running import FaustStuckError

    monkeypatch.setattr(component, "_STUCK_S", 0.05)
    monkeypatch.setattr(component, "_LOOK_EVERY_S", 0.01)
    lags = count(5)
    recovery = SimpleNamespace(active_remaining_total=lambda: 7)
    app = SimpleNamespace(crashed=False, tables=SimpleNamespace(actives_ready=is_read, recovery=recovery))
    health = Health().part("statistics")
    context = ConsumerContext(RetrySettings(), asyncio.Event(), health, "statistics")

    async def group_lag(*_: object) -> dict[int, int]:
        return {0: next(lags)}

    admin = SimpleNamespace(group_lag=group_lag)
    with pytest.raises(FaustStuckError, match=wrong):
        await component._watch(app, SimpleNamespace(acknowledged=3), context, admin)
    assert (health.reason is None) == is_read
