"""The embedded broker and a real Kafka keep the broker contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.broker.settings import BrokerSettings
from standgale.testing.broker import BrokerContract, BrokerHarness
from tests.harnesses.brokers import harness_of


class TestBroker(BrokerContract):
    @pytest.fixture
    async def harness(self, broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[BrokerHarness]:
        harness = harness_of(broker_settings, tmp_path)
        yield harness
        await harness.close()
