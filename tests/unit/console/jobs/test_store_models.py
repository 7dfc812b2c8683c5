"""The versions of the model store for requests: read seldom, and unknown while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from console.jobs.store_models import StoreModels
from detectors.errors import ModelStoreUnavailableError
from schemas.event_base import ModelRef
from tests.harnesses.stub_store import StubStore

SMALL = ModelRef(name="small", version="1.0.0")
SHIPPED = ModelRef(name="shipped", version="2.0.0")


class Store(StubStore):
    """Is a model store that is listed; with ``away`` it cannot be."""

    def __init__(self) -> None:
        self.away = False
        self.reads = 0

    async def versions(self) -> Sequence[ModelRef]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise ModelStoreUnavailableError("the store is away")
        return [SMALL]


async def test_requests_at_once_read_the_store_once() -> None:
    store = Store()
    models = StoreModels(store, [SHIPPED])
    found = await asyncio.gather(*(models.versions() for _ in range(5)))
    assert found == [[SMALL, SHIPPED]] * 5
    assert store.reads == 1


async def test_versions_are_unknown_while_the_store_is_away() -> None:
    store = Store()
    models = StoreModels(store, kept_s=0.0)
    store.away = True
    assert await models.versions() is None
    store.away = False
    assert await models.versions() == [SMALL]
