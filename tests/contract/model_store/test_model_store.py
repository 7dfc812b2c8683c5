"""A folder, a real S3 server, a loader service and LakeFS keep the model store contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from standgale.testing.model_store import ModelStoreBench, ModelStoreContract
from tests.benches.model_stores import kinds, model_store_bench


class TestModelStore(ModelStoreContract):
    @pytest.fixture(params=kinds())
    async def bench(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ModelStoreBench]:
        with model_store_bench(request.param, tmp_path / "site") as bench:
            yield bench
            await bench.close()
