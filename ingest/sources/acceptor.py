"""Gives the frames of one source to the acceptance, as long as this process has the source."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from infra.http_api.errors.api_errors import ApiError
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.fields import FrameFields
from ingest.images.formats.header import ImageError
from ingest.sources.errors import AcceptanceBusyError, FrameRefusedError
from ingest.sources.lease import Lease
from ingest.video.port import VideoFrame
from schemas.events import FrameCaptured


class SourceAcceptor:
    """Stores and publishes frames of one device; is the FrameAcceptor of a pull."""

    def __init__(self, acceptance: Acceptance, device_id: str, lease: Lease) -> None:
        self._acceptance = acceptance
        self._device_id = device_id
        self._lease = lease

    async def accept(self, frame: VideoFrame) -> None:
        """Return when ``frame`` is durable. Raises a transient error while it cannot be, also for back-pressure.

        Raises LeaseLostError where the source is another process's by now: nothing is published then, and a publish
        that is on its way when the lease ends is given up.
        """
        self._lease.require()
        try:
            self._acceptance.require_room(self._device_id)
        except ApiError as error:
            # A device would send later; here the frame waits.
            raise AcceptanceBusyError(str(error)) from error
        event = await self._prepare(frame)
        # A process that was frozen meanwhile wakes up here.
        self._lease.require()
        try:
            async with asyncio.timeout(self._lease.remaining_s()):
                await self._acceptance.publish([event])
        except TimeoutError:
            self._lease.require()
            raise

    async def _prepare(self, frame: VideoFrame) -> FrameCaptured:
        fields = FrameFields(
            device_id=None,
            captured_at=frame.captured_at,
            camera=_given(frame),
            metadata={},
            original_filename=None,
            video=frame.position,
        )
        try:
            return (await self._acceptance.prepare(self._device_id, frame.image, fields)).event
        except (ImageError, ApiError) as error:
            raise FrameRefusedError(str(error)) from error


def _given(frame: VideoFrame) -> Mapping[str, float]:
    """Return what the telemetry says; the rest may be in the picture's own metadata."""
    return {} if frame.camera is None else frame.camera.model_dump(exclude_none=True)
