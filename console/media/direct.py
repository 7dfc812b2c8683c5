"""Detects one picture while its request waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID, uuid4

from console.http.connection import request_connection
from console.media import records
from console.media.bodies import MediaDetection, detections_of
from console.media.config import MediaConfig
from console.media.errors import DetectionTimeoutError, FrameFailedError
from console.media.frames import KeptMedia
from console.media.records import MediaFrame
from console.media.settings import MediaSettings
from console.parts import ConsoleParts
from infra.database.transaction import transaction
from infra.http_api.errors.api_errors import OverloadedError
from schemas.errors import StandgaleError
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_FIRST_S = 0.02
_SLOWEST_S = 0.2


class DirectDetection:
    """Waits for detections; at most ``media.max_direct`` requests at the same time."""

    def __init__(self, parts: ConsoleParts, settings: MediaSettings, kept: KeptMedia) -> None:
        self._parts = parts
        self._media = settings
        self._kept = kept
        self._waiting = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for the block. Raises OverloadedError when there is none."""
        if self._waiting >= self._media.max_direct:
            raise OverloadedError(
                f"{self._waiting} requests wait for detections, as many as there may be (media.max_direct)",
                details="Send it again after Retry-After seconds.",
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def keep(self, picture: bytes) -> MediaFrame:
        """Store a picture. Raises ImageError for one that is not accepted, and the errors of the store."""
        return await self._kept.keep_image(picture, utc_now())

    async def detect(self, frame: MediaFrame, config: MediaConfig, client_id: str) -> list[MediaDetection]:
        """Return what is found in ``frame``; while it waits, it does not hold the picture.

        Raises FrameFailedError, DetectionTimeoutError, and the errors of the database.
        """
        run = uuid4()
        try:
            async with request_connection(self._parts, writing=True) as connection, transaction(connection):
                await records.add_direct(connection, run, client_id, config)
                await records.add_frame(connection, run, None, frame)
            try:
                async with asyncio.timeout(self._media.answer_timeout_s):
                    return await self._answer(run)
            except TimeoutError as error:
                raise DetectionTimeoutError(
                    f"no detector has answered within {self._media.answer_timeout_s:g} s (media.answer_timeout_s)",
                    details="Send it again later, or as a medium of its own: POST /detect/{media_id}.",
                ) from error
        finally:
            # What is left of a client that has gone is removed later.
            with suppress(StandgaleError, OSError):
                await asyncio.shield(self._forget(run))

    async def _answer(self, run: UUID) -> list[MediaDetection]:
        pause_s = _FIRST_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _SLOWEST_S)
            async with request_connection(self._parts) as connection:
                end = await records.frame_end(connection, run)
                if end is not None and end["session_id"] is not None:
                    found = await records.found_in(connection, [end["session_id"]])
                    return detections_of(found[end["session_id"]])
            if end is not None and end["status"] == "failed":
                raise FrameFailedError(end["error_code"], end["error_message"])

    async def _forget(self, run: UUID) -> None:
        async with request_connection(self._parts, writing=True) as connection:
            await records.forget_run(connection, run)
