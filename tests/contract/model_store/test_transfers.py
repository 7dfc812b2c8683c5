"""A real S3 server, a loader service and LakeFS keep the contract of transfers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standgale.testing.model_store import NetworkHarness, TransferContract
from tests.harnesses.model_stores import kinds, model_store_harness


class TestTransfers(TransferContract):
    @pytest.fixture(params=kinds("folder"))
    async def network(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NetworkHarness]:
        with model_store_harness(request.param, tmp_path / "site") as harness:
            yield harness
            await harness.close()
