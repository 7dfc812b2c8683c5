"""Starts the fleets of workers for the tests of roll-outs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.broker.kafka.adapter import KafkaBroker
from infra.broker.port import Broker
from infra.deploy.kafka import KafkaServer
from schemas.topics import TopicSpec
from tests.harnesses.worker_fleet import Fleet, fleet_in
from tests.harnesses.worker_site import WorkerSite
from tests.servers.kafka import kafka_settings, require_kafka_tools


@pytest.fixture
async def fleet(tmp_path: Path, site: WorkerSite) -> Fleet:
    return await fleet_in(tmp_path, site)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of the test's own: the topics have the names that production has."""
    require_kafka_tools()
    with KafkaServer(tmp_path / "kafka") as server:
        yield server


@pytest.fixture(params=["embedded", "kafka"])
async def any_fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Fleet]:
    def kafka(declared: dict[str, TopicSpec]) -> Broker:
        return KafkaBroker(kafka_settings(request.getfixturevalue("own_kafka")), declared)

    async with AsyncExitStack() as stack:
        site = WorkerSite(tmp_path, kafka if request.param == "kafka" else None)
        stack.push_async_callback(site.close)
        admin = await site.broker.admin()
        await admin.apply(site.topics.values())
        assert await admin.check(site.topics.values()) == []
        await admin.close()
        yield await fleet_in(tmp_path, site)
