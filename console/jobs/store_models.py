"""Names the versions in the model store for requests, as they were some seconds ago, and reads their cards."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from detectors.card.card import ModelCard
from detectors.errors import ModelLoadError
from detectors.store.port import ModelStore
from infra.errors import TransientError
from infra.failure.error_texts import error_code, error_text
from schemas.event_base import ModelRef

logger = logging.getLogger(__name__)

_KEPT_S = 5.0
_TIMEOUT_S = 5.0
_MOST_CARDS = 256

ActiveModels = Callable[[], Awaitable[Sequence[ModelRef]]]
"""Returns the versions that detectors use; empty when that is not known"""


class StoreModels:
    """Is the :class:`console.ports.ModelNames` of a model store; requests at the same time ask the store once."""

    def __init__(
        self, store: ModelStore, own: ModelCard | None, active: ActiveModels, *, kept_s: float = _KEPT_S
    ) -> None:
        """``own``: the card of a version outside the store that detectors have, such as the one that ships."""
        self._store = store
        self._own = own
        self._active = active
        self._kept_s = kept_s
        self._known: Sequence[ModelRef] | None = None
        self._until = 0.0
        self._reading = asyncio.Lock()
        # A version never changes.
        self._takes_prompt: OrderedDict[ModelRef, bool] = OrderedDict()

    async def versions(self) -> Sequence[ModelRef] | None:
        """Return all versions; None while the store cannot list them: then a detector finds out whether it has one."""
        async with self._reading:
            if time.monotonic() >= self._until:
                self._known = await self._read()
                self._until = time.monotonic() + self._kept_s
            return self._known

    async def active(self) -> Sequence[ModelRef]:
        """Return the versions that detectors use."""
        return await self._active()

    async def takes_prompt(self, model: ModelRef) -> bool | None:
        """Return whether the version takes a text; None while its card cannot be read."""
        if self._own is not None and model == _ref_of(self._own):
            return self._own.text is not None
        found = self._takes_prompt.get(model)
        if found is not None:
            return found
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                card = await self._store.card(model)
        except (TransientError, ModelLoadError, OSError) as error:
            _warn(f"the card of {model.name} {model.version} cannot be read", error)
            return None
        self._takes_prompt[model] = card.text is not None
        while len(self._takes_prompt) > _MOST_CARDS:
            self._takes_prompt.popitem(last=False)
        return card.text is not None

    async def _read(self) -> Sequence[ModelRef] | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = await self._store.versions()
        except (TransientError, ModelLoadError, OSError) as error:
            _warn("the model store cannot be listed", error)
            return None
        return found if self._own is None else [*found, _ref_of(self._own)]


def _ref_of(card: ModelCard) -> ModelRef:
    return ModelRef(name=card.name, version=card.version)


def _warn(what: str, error: Exception) -> None:
    # A time limit is an OSError, too.
    logger.warning("%s: %s", what, error_text(error), extra={"code": error_code(error)})
