"""Simulates drones: each sends its frames over HTTP in its interval, and repeats frames that were not accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import aiohttp

from schemas.timestamps import format_utc, utc_now
from standgale.demo.frames import DemoFrame

logger = logging.getLogger(__name__)

_ATTEMPTS = 20
_FIRST_DELAY_S = 0.2
_MAX_DELAY_S = 5.0


@dataclass(slots=True)
class SentFrame:
    """Holds one frame that a drone sent, and what the gateway made of it.

    ``frame_id`` is set when the gateway accepted it (202), ``refusal`` when it was refused.
    """

    frame: DemoFrame
    captured_at: datetime
    started: float
    frame_id: UUID | None = None
    refusal: str | None = None


@dataclass(slots=True)
class Drone:
    """Sends ``frames`` to ``url`` at ``interval_s``, or as fast as they are accepted when rendering takes longer."""

    url: str
    token: str = field(repr=False)
    frames: Iterator[DemoFrame]
    interval_s: float
    on_sent: Callable[[SentFrame], None]

    async def fly(self, session: aiohttp.ClientSession) -> None:
        """Send all frames; returns when each was accepted or finally refused."""
        due = time.monotonic()
        while (frame := await asyncio.to_thread(next, self.frames, None)) is not None:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self.interval_s, time.monotonic())
            sent = SentFrame(frame, utc_now(), time.perf_counter())
            await self._send(session, sent)
            self.on_sent(sent)

    async def _send(self, session: aiohttp.ClientSession, sent: SentFrame) -> None:
        delay_s = _FIRST_DELAY_S
        for _ in range(_ATTEMPTS):
            try:
                if await self._post(session, sent):
                    return
            except (aiohttp.ClientError, TimeoutError) as error:
                logger.info("the gateway did not respond; the frame is sent again", extra={"error": str(error)})
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _MAX_DELAY_S)
        sent.refusal = f"not accepted after {_ATTEMPTS} attempts"

    async def _post(self, session: aiohttp.ClientSession, sent: SentFrame) -> bool:
        """Send once; returns whether the response is final."""
        parameters = {"captured_at": format_utc(sent.captured_at), "original_filename": sent.frame.name}
        headers = {"X-API-Token": self.token, "Content-Type": sent.frame.media_type}
        async with session.post(self.url, data=sent.frame.data, params=parameters, headers=headers) as response:
            body = await response.json()
        if response.status == 202:
            sent.frame_id = UUID(body["frame_id"])
            return True
        if response.status in (429, 503) or response.status >= 500:
            return False
        sent.refusal = f"{body.get('error_code')}: {body.get('message')}"
        return True
