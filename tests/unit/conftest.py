"""What unit tests of consumers and of dead letters share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.broker.port import Reader
from schemas.topics import load_topics
from tests.benches.sink_runs import MeddlingBroker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[MeddlingBroker]:
    """An embedded broker in the test's own folder that a test can put faults into."""
    broker = MeddlingBroker(tmp_path / "broker.sqlite", load_topics())
    yield broker
    await broker.close()


@pytest.fixture
async def reader(broker: MeddlingBroker) -> AsyncIterator[Reader]:
    reader = await broker.reader()
    yield reader
    await reader.close()
