"""Measures how many frames per second retention removes, and checks that it removes exactly what the policy says."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

from bench.processes import BenchError, Home, home, measured
from bench.result import RATIO, Figure, Goal, Result
from infra.broker.port import GroupState
from infra.storage.frames.folder import FolderFrameStore
from schemas.topics import DETECTIONS
from sinks.retention.run import Retention
from sinks.retention.settings import RetentionSettings

_PICTURE_BYTES = 400
_CONFIDENCES = (None, 0.3, None, 0.9)
_NOTE = (
    "Frames of 200 days in a folder, with a session each and a detection in every second one; all but a quarter, "
    "which are confident, are removed: by age, and by total size. Bare is `unlink` of as many files in threads, and "
    "DELETE of as many rows in batches of 500. What is left is compared with a plain reading of the policy, byte for "
    "byte, and a second run removes nothing."
)


def run(quick: bool) -> Result:
    """Fill a store, run retention, and remove as many files and rows without it."""
    return measured(lambda folder: _run(folder, 4_000 if quick else 100_000))


class _AllRead:
    """Is an admin of a broker whose groups have read everything."""

    async def groups(self) -> Sequence[GroupState]:
        return [GroupState("sink.postgres", 1, (DETECTIONS,), 0, None, None)]


async def _run(folder: Path, count: int) -> Result:
    async with home(folder) as place:
        store = FolderFrameStore(folder / "frames")
        try:
            digests = await _fill(place, folder / "frames", count)
            wanted = {digest for number, digest in enumerate(digests) if _CONFIDENCES[number % 4] == 0.9}
            settings = RetentionSettings(max_total_gb=0.000_001, retention_days=90)
            retention = Retention(store, place.database, _AllRead(), settings)  # type: ignore[arg-type]
            start = time.perf_counter()
            report = await retention.run()
            took_s = time.perf_counter() - start
            left = await asyncio.to_thread(lambda: {path.stem for path in (folder / "frames").glob("??/*.jpg")})
            if left != wanted or report.removed_frames != count - len(wanted) or (await retention.run()).removed:
                raise BenchError("retention did not remove what the policy says")
            bare_s = await _bare(place, folder, count - len(wanted))
        finally:
            await store.close()
    removed = count - len(wanted)
    return Result(
        "retention",
        f"Retention over {count:,} frames",
        (
            Figure("frames removed", removed / took_s, "frames/s"),
            Figure("bare unlink and DELETE", removed / bare_s, "frames/s"),
            Figure("retention over bare", bare_s / took_s, RATIO, Goal(0.1)),
        ),
        (_NOTE,),
    )


async def _fill(place: Home, frames: Path, count: int) -> list[str]:
    """Write files and rows, the oldest first; return the digests."""
    now, device = datetime.now(UTC), UUID(int=1)
    ids = [uuid4() for _ in range(count)]
    times = [now - timedelta(days=200 - 198 * number / count) for number in range(count)]

    def write() -> list[str]:
        for name in range(256):
            (frames / f"{name:02x}").mkdir(parents=True, exist_ok=True)
        found = []
        for number, moment in enumerate(times):
            data = f"{number:012d}".encode().ljust(_PICTURE_BYTES, b".")
            digest = sha256(data).hexdigest()
            path = frames / digest[:2] / f"{digest}.jpg"
            path.write_bytes(data)
            os.utime(path, (moment.timestamp(),) * 2)
            found.append(digest)
        return found

    digests = await asyncio.to_thread(write)
    async with place.database.acquire() as connection:
        await connection.execute(
            "INSERT INTO devices (id, device_id) VALUES ($1, 'bench') ON CONFLICT DO NOTHING", device
        )
    await _copy_rows(place, device, ids, times, digests)
    return digests


async def _copy_rows(
    place: Home, device: UUID, ids: Sequence[UUID], times: Sequence[datetime], digests: Sequence[str]
) -> None:
    found = [_CONFIDENCES[number % 4] for number in range(len(ids))]
    async with place.database.acquire() as connection:
        await connection.copy_records_to_table(
            "images",
            records=[
                (
                    *(id_, device, f"file:///frames/{digest[:2]}/{digest}.jpg", digest, at, at, 8, 8, "jpeg"),
                    *(_PICTURE_BYTES, "completed", at, confidence is not None),
                )
                for id_, at, digest, confidence in zip(ids, times, digests, found, strict=True)
            ],
            columns=(
                *("id", "device_id", "image_uri", "sha256", "captured_at", "uploaded_at", "width", "height", "format"),
                *("size_bytes", "processing_status", "processed_at", "has_detections"),
            ),
        )
        await connection.copy_records_to_table(
            "inference_sessions",
            records=[
                (uuid4(), id_, at, "m", "1", at, confidence)
                for id_, at, confidence in zip(ids, times, found, strict=True)
            ],
            columns=("id", "image_id", "started_at", "model_name", "model_version", "completed_at", "max_confidence"),
        )
        await connection.copy_records_to_table(
            "detections",
            records=[
                (uuid4(), id_, 0.1, 0.1, 0.2, 0.2, confidence, "car", "m", "1")
                for id_, confidence in zip(ids, found, strict=True)
                if confidence is not None
            ],
            columns=(
                *("id", "image_id", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "confidence", "label"),
                *("model_name", "model_version"),
            ),
        )
        await connection.execute("ANALYZE")


async def _bare(place: Home, folder: Path, count: int) -> float:
    """Remove as many files and rows as plainly as it can be done; return how long it took."""
    await _fill(place, folder / "bare", count)
    async with place.database.acquire() as connection:
        rows = [
            row["id"] for row in await connection.fetch("SELECT id FROM images ORDER BY uploaded_at LIMIT $1", count)
        ]
    paths = list((folder / "bare").glob("??/*.jpg"))
    start = time.perf_counter()
    await asyncio.gather(*(asyncio.to_thread(_unlink, paths[first::16]) for first in range(16)))
    for first in range(0, len(rows), 500):
        async with place.database.acquire() as connection:
            await connection.execute("DELETE FROM images WHERE id = ANY($1)", rows[first : first + 500])
    return time.perf_counter() - start


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink()
