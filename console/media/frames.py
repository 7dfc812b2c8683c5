"""Recognises a medium by its content, stores it, and makes its frames: one of a picture, some of a video."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from console.media.records import MediaFrame, Medium, Progress, Run
from console.settings import ConsoleSettings
from infra.http_api.errors.api_errors import ExtraMissingError
from infra.storage.file_digests import file_digest
from infra.storage.frames.addressing import OTHER
from infra.storage.frames.port import FrameStore
from ingest.images.check import ImageInfo, ImageLimits, image_too_large, inspect_image
from ingest.images.exif import read_capture
from ingest.images.formats import jpeg, png, tiff, webp
from ingest.replay.sources.threads import in_threads
from ingest.settings import VideoSettings
from ingest.video.errors import VideoStartError
from ingest.video.options import VideoSource
from ingest.video.port import VideoFrame
from ingest.video.reading import SourceReader, SourceState
from ingest.video.recording import open_recording
from schemas.ids import frame_id
from schemas.timestamps import utc_now

_DEVICES = 32
_MAGIC_BYTES = 64
_FORMATS = ("JPEG", "PNG", "TIFF")


def image_limits(settings: ConsoleSettings) -> ImageLimits:
    """Return the limits of pictures: those of uploads."""
    return ImageLimits(
        max_image_bytes=settings.max_file_bytes,
        min_side_px=settings.min_side_px,
        max_side_px=settings.max_side_px,
        max_pixels=settings.max_side_px**2,
        setting_names=("console.max_file_bytes", "console.max_side_px", "console.max_side_px"),
        formats=_FORMATS,
    )


def require_video() -> None:
    """Raise ExtraMissingError where the library that reads videos is not installed."""
    if find_spec("av") is None:
        raise ExtraMissingError(
            "this server detects no videos, because the library that reads them is not installed", "video"
        )


@dataclass(frozen=True, slots=True)
class KeptMedia:
    """Keeps media and their frames in the frame store."""

    store: FrameStore
    settings: ConsoleSettings
    video: VideoSettings

    async def keep(self, path: Path) -> Medium:
        """Store the medium in the file ``path``: a picture, or else what must be a video.

        Raises ImageError for a picture that is not accepted, ExtraMissingError for a video that nothing here can read,
        and the errors of the store.
        """
        media_type = await asyncio.to_thread(self._media_type, path)
        if media_type == OTHER:
            require_video()
        digest, size = await asyncio.to_thread(file_digest, path)
        uri = await self.store.put_file(path, sha256=digest.hex(), media_type=media_type)
        return Medium(uri, digest.hex(), size, media_type)

    async def keep_image(self, data: bytes, created_at: datetime) -> MediaFrame:
        """Store a picture, and return its frame; the errors are the same, and InvalidFormatError for a video."""
        digest = await asyncio.to_thread(lambda: sha256(data).hexdigest())
        info = await asyncio.to_thread(inspect_image, data, image_limits(self.settings))
        uri = await self.store.put(data, sha256=digest, media_type=info.media_type)
        return await asyncio.to_thread(
            _frame_of_image, data, info, Medium(uri, digest, len(data), info.media_type), created_at
        )

    async def frames(self, run: Run, medium: Medium, done: Progress) -> AsyncIterator[MediaFrame]:
        """Yield the frames that have no row yet, each stored; a video is read from its begin again.

        Raises VideoError for what is none, SettingsError without PyAV, and the errors of the store.
        """
        if medium.media_type != OTHER:
            if done.frames == 0:
                async with self.store.local(medium) as path:
                    data = await asyncio.to_thread(path.read_bytes)
                info = await asyncio.to_thread(inspect_image, data, image_limits(self.settings))
                yield await asyncio.to_thread(_frame_of_image, data, info, medium, run.created_at)
            return
        position = done.frames - 1
        async with self.store.local(medium) as path:
            async for picture in self._pictures(run, path, done.last_at):
                position += 1
                yield await self._keep_frame(position, picture)

    async def duration_s(self, medium: Medium) -> float | None:
        """Return how long a video says that it is. Raises VideoError."""
        if medium.media_type == OTHER:
            async with self.store.local(medium) as path:
                return await asyncio.to_thread(self._duration, path)
        return None

    def _duration(self, path: Path) -> float | None:
        with open_recording(path, self.video, "video.max_pixels") as recording:
            found = recording.decoder.duration_s
            return found if found and found > 0 else None

    async def _pictures(self, run: Run, path: Path, after: datetime | None) -> AsyncIterator[VideoFrame]:
        # What the video says of its time comes first.
        for start in (None, run.created_at):
            source = VideoSource(run.media_id, str(path.absolute()), run.config.sampling.selection(), start=start)
            reader = SourceReader(source, self.video, SourceState(resume_after=after))
            try:
                async for picture in in_threads(reader.frames(), 1):
                    yield picture
                return
            except VideoStartError:
                if start is not None:
                    raise
            finally:
                reader.close()

    async def _keep_frame(self, position: int, picture: VideoFrame) -> MediaFrame:
        digest = sha256(picture.image).hexdigest()
        uri = await self.store.put(picture.image, sha256=digest, media_type="image/jpeg")
        device = f"jobs-{position % _DEVICES:02d}"
        return MediaFrame(
            position,
            frame_id(device, picture.captured_at, digest),
            device,
            picture.captured_at,
            picture.presentation_time_s,
            Medium(uri, digest, len(picture.image), "image/jpeg"),
            picture.width,
            picture.height,
            picture.camera,
        )

    def _media_type(self, path: Path) -> str:
        limits = image_limits(self.settings)
        with path.open("rb") as file:
            head = file.read(_MAGIC_BYTES)
        if not (head.startswith((jpeg.MAGIC, png.MAGIC, *tiff.MAGICS)) or webp.matches(head)):
            return OTHER
        size = path.stat().st_size
        if size > limits.max_image_bytes:
            raise image_too_large(size, limits.max_image_bytes, limits.setting_names[0])
        return inspect_image(path.read_bytes(), limits).media_type


def _frame_of_image(data: bytes, info: ImageInfo, image: Medium, created_at: datetime) -> MediaFrame:
    capture = read_capture(data, info)
    captured_at = min(capture.captured_at or created_at, utc_now()).astimezone(UTC)
    device = f"jobs-{int(image.sha256[:4], 16) % _DEVICES:02d}"
    return MediaFrame(
        0,
        frame_id(device, captured_at, image.sha256),
        device,
        captured_at,
        None,
        image,
        info.width,
        info.height,
        capture.camera,
    )
