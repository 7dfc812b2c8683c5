"""Names the versions in the model store for requests, as they were some seconds ago."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from detectors.errors import ModelLoadError
from detectors.store.port import ModelStore
from infra.errors import TransientError
from infra.failure.error_texts import error_code, error_text
from schemas.event_base import ModelRef

logger = logging.getLogger(__name__)

_KEPT_S = 5.0
_TIMEOUT_S = 5.0


class StoreModels:
    """Is the :class:`console.ports.ModelNames` of a model store; requests at the same time ask the store once."""

    def __init__(self, store: ModelStore, also: Sequence[ModelRef] = (), *, kept_s: float = _KEPT_S) -> None:
        """``also`` are versions outside the store that detectors have, such as the one that ships."""
        self._store = store
        self._also = also
        self._kept_s = kept_s
        self._known: Sequence[ModelRef] | None = None
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def versions(self) -> Sequence[ModelRef] | None:
        """Return all versions; None while the store cannot list them: then a detector finds out whether it has one."""
        async with self._reading:
            if time.monotonic() >= self._until:
                self._known = await self._read()
                self._until = time.monotonic() + self._kept_s
            return self._known

    async def _read(self) -> Sequence[ModelRef] | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return [*await self._store.versions(), *self._also]
        except (TransientError, ModelLoadError, OSError) as error:
            # A time limit is an OSError, too.
            logger.warning("the model store cannot be listed: %s", error_text(error), extra={"code": error_code(error)})
            return None
