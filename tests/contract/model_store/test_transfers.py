"""A real S3 server, a loader service and LakeFS keep the contract of transfers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standgale.testing.model_store import NetworkBench, TransferContract
from tests.benches.model_stores import kinds, model_store_bench


class TestTransfers(TransferContract):
    @pytest.fixture(params=kinds("folder"))
    async def network(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NetworkBench]:
        with model_store_bench(request.param, tmp_path / "site") as bench:
            yield bench
            await bench.close()
