"""The embedded broker and a real Kafka keep the broker contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.broker.settings import BrokerSettings
from standgale.testing.broker import BrokerBench, BrokerContract
from tests.benches.brokers import bench_of


class TestBroker(BrokerContract):
    @pytest.fixture
    async def bench(self, broker_settings: BrokerSettings, tmp_path: Path) -> AsyncIterator[BrokerBench]:
        bench = bench_of(broker_settings, tmp_path)
        yield bench
        await bench.close()
