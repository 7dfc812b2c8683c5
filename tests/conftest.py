"""What every tier of the tests shares: one real Kafka broker for the whole run, and a place for workers to work in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.deploy.kafka import KafkaServer
from infra.deploy.kafka.jars import missing_tools
from tests.support_worker import WorkerWorld


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A running broker. Without Java or Maven the test is skipped, but fails where CI is set: CI has them."""
    missing = missing_tools()
    if missing:
        reason = f"{' and '.join(missing)} not found; Kafka tests need Java 17 and Apache Maven"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[WorkerWorld]:
    """An embedded broker, a folder of frames and a model in the test's own folder."""
    world = WorkerWorld(tmp_path)
    try:
        yield world
    finally:
        await world.broker.close()
        await world.store.close()
