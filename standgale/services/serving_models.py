"""Reads which model versions the detectors use now, for requests that name none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from detectors.worker.rollout.models_topic import is_report_fresh, read_models
from infra.broker.port import Reader
from infra.broker.reading import respond_within
from infra.failure.error_texts import error_text
from schemas.errors import StandgaleError
from schemas.event_base import ModelRef
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_REFRESH_S = 5.0
_READ_S = 2.0


class ServingModels:
    """Keeps the versions for some seconds; none while the broker does not say, or no detector reports."""

    def __init__(self, open_reader: Callable[[], Awaitable[Reader]]) -> None:
        self._open_reader = open_reader
        self._found: Sequence[ModelRef] = ()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def __call__(self) -> Sequence[ModelRef]:
        """Return the versions that serve in a detector, of every roll-out lane."""
        async with self._reading:
            if time.monotonic() - self._read_at >= _REFRESH_S:
                try:
                    self._found = await respond_within(self._serving(), _READ_S, "the models of the detectors")
                except (StandgaleError, OSError) as error:
                    logger.warning("the models of the detectors are not known: %s", error_text(error))
                    self._found = ()
                self._read_at = time.monotonic()
            return self._found

    async def _serving(self) -> Sequence[ModelRef]:
        reader = await self._open_reader()
        try:
            state, now = await read_models(reader), utc_now()
        finally:
            with suppress(StandgaleError, OSError):
                await reader.close()
        fresh = [report for report in state.workers.values() if is_report_fresh(report, now)]
        return list(dict.fromkeys(one.model for report in fresh for one in report.models if one.serving))
