"""What every tier of the tests shares: one real Kafka broker for the whole run, and a place for workers to work in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.deploy.kafka import KafkaServer
from tests.support_kafka import require_kafka_tools
from tests.support_worker import WorkerWorld


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A running broker."""
    require_kafka_tools()
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[WorkerWorld]:
    """An embedded broker, a folder of frames and a model in the test's own folder."""
    world = WorkerWorld(tmp_path)
    try:
        yield world
    finally:
        await world.close()
