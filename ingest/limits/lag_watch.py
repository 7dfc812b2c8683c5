"""Reads the lag of the detectors in the background, for :class:`ingest.limits.lag.LagLimits`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from infra.broker.port import Admin, Broker, TopicPartition
from infra.broker.reading import respond_within
from infra.failure.error_texts import error_text
from infra.process.health import HealthPart
from ingest.limits.lag import WATCHED, LagLimits

logger = logging.getLogger(__name__)

_NOTE = "lag"
_READ_S = 5.0


class LagWatch:
    """Reads what the group of the detectors has not committed every ``interval_s``; a component.

    It is ready always: a gateway that refuses frames because the detectors are behind does its work, and a balancer
    that takes it away would only send its devices to another one with the same detectors.
    """

    name = "lag"

    def __init__(self, broker: Broker, group: str, limits: LagLimits, interval_s: float) -> None:
        self._broker = broker
        self._group = group
        self._limits = limits
        self._interval_s = interval_s
        self._admin: Admin | None = None
        self._failed = False

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Read until ``stop`` is set; no error ends it."""
        health.set_ready()
        try:
            while not stop.is_set():
                health.beat()
                await self._read()
                refusing = self._limits.refusing()
                note = f"frames of {refusing} partitions are refused: the detectors are behind" if refusing else None
                health.set_note(_NOTE, note)
                await health.pause(self._interval_s, stop)
        finally:
            await self._close()

    async def _read(self) -> None:
        try:
            self._limits.update(await respond_within(self._lag(), _READ_S, f"the lag of {self._group}"))
        except Exception as error:  # noqa: BLE001 (without the lag frames are accepted, after any error)
            if not self._failed:
                logger.warning(
                    "the lag of %s cannot be read, so no frame is refused because of it: %s",
                    self._group,
                    error_text(error),
                )
            self._failed = True
            return
        if self._failed:
            logger.info("the lag of %s is read again", self._group)
        self._failed = False

    async def _lag(self) -> Mapping[TopicPartition, int]:
        if self._admin is None:
            self._admin = await self._broker.admin()
        return await self._admin.group_lag(self._group, WATCHED)

    async def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_READ_S):
                    await admin.close()
