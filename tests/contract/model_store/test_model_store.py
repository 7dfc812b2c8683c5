"""A folder, a real S3 server, a loader service and LakeFS keep the model store contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standgale.testing.model_store import ModelStoreContract, ModelStoreHarness
from tests.harnesses.model_stores import kinds, model_store_harness


class TestModelStore(ModelStoreContract):
    @pytest.fixture(params=kinds())
    async def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ModelStoreHarness]:
        with model_store_harness(request.param, tmp_path / "site") as harness:
            yield harness
            await harness.close()
