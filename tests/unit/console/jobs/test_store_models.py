"""The versions of the model store for requests: read seldom, and unknown while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from console.jobs.store_models import StoreModels
from detectors.card.card import ModelCard, TextCard
from detectors.errors import ModelStoreUnavailableError
from schemas.event_base import ModelRef
from standgale.testing.factories import model_card
from tests.harnesses.stub_store import StubStore

SMALL = ModelRef(name="small", version="1.0.0")
OWN = model_card()


class Store(StubStore):
    """Is a model store that is listed; with ``away`` it cannot be."""

    def __init__(self, *cards: ModelCard) -> None:
        self.cards = {ModelRef(name=card.name, version=card.version): card for card in cards}
        self.away = False
        self.reads = 0

    async def versions(self) -> Sequence[ModelRef]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise ModelStoreUnavailableError("the store is away")
        return [SMALL]

    async def card(self, model: ModelRef) -> ModelCard:
        self.reads += 1
        if self.away:
            raise ModelStoreUnavailableError("the store is away")
        return self.cards[model]


async def serving() -> Sequence[ModelRef]:
    return [SMALL]


async def test_requests_at_once_read_the_store_once() -> None:
    store = Store()
    models = StoreModels(store, OWN, serving)
    found = await asyncio.gather(*(models.versions() for _ in range(5)))
    assert found == [[SMALL, ModelRef(name=OWN.name, version=OWN.version)]] * 5
    assert store.reads == 1


async def test_versions_are_unknown_while_the_store_is_away() -> None:
    store = Store()
    models = StoreModels(store, None, serving, kept_s=0.0)
    store.away = True
    assert await models.versions() is None
    store.away = False
    assert await models.versions() == [SMALL]


async def test_cards_show_whether_a_version_takes_a_text() -> None:
    grounded = OWN.model_copy(update={"name": "grounded", "text": TextCard(tokenizer="tokenizer.json")})
    store = Store(grounded)
    models = StoreModels(store, OWN, serving)
    ref = ModelRef(name="grounded", version=OWN.version)
    store.away = True
    assert await models.takes_prompt(ref) is None
    store.away = False
    assert [await models.takes_prompt(ref) for _ in range(3)] == [True] * 3
    assert await models.takes_prompt(ModelRef(name=OWN.name, version=OWN.version)) is False
    # A version never changes: once it was away, once it was read.
    assert store.reads == 2
    assert await models.active() == [SMALL]
