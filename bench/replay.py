"""Measures how many frames per second a replay of a folder makes durable, and a bare loop that does only that."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from bench import pictures
from bench.measure import Run, rate, take_turns
from bench.processes import measured
from bench.result import RATIO, Figure, Goal, Result
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.event_records import event_record
from infra.broker.open import embedded_file
from infra.broker.port import OutRecord
from infra.storage.frames.folder import FolderFrameStore
from ingest.replay.progress import Progress
from schemas.events import FrameCaptured, ImageRef
from schemas.ids import frame_id
from schemas.topics import FRAMES_BACKFILL, load_topics
from standgale.replays import ReplayRequest, run_replay
from standgale.settings import Settings

GOAL = 0.8
_SIZE_BYTES = 100_000
_AT_ONCE = 16
Fresh = Callable[[], Path]

_NOTE = (
    f"Files of {_SIZE_BYTES // 1_000} kB with new content each, from a folder to folder store and embedded broker, "
    f"both on the same disk. The bare loop reads, hashes, stores and publishes {_AT_ONCE} files at a time, every write "
    "synced, with no checks, metadata, order or checkpoint. Ours is a whole `standgale replay` without its start."
)


def run(quick: bool) -> Result:
    """Measure both in turns."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    frames, rounds = (200, 2) if quick else (1_000, 5)
    picture, numbers = pictures.of_size(_SIZE_BYTES), count()

    def fresh() -> Path:
        """Make a folder of pictures that no store has."""
        number = next(numbers)
        made = folder / f"pictures-{number}"
        made.mkdir()
        for each in range(frames):
            parts = pictures.numbered(picture.data, number * frames + each)
            (made / f"{each:06d}.jpg").write_bytes(b"".join(parts))
        return made

    compared = await take_turns(_replay(folder, fresh, frames), _bare(folder, fresh, frames), rounds)
    return Result(
        "replay",
        "Replay of a folder over a bare durable loop",
        (
            Figure("bare: read, hash, store, publish", compared.bare_rate, "frames/s"),
            Figure("replay", compared.our_rate, "frames/s"),
            Figure("replay / bare", compared.ratio, RATIO, Goal(GOAL)),
        ),
        (_NOTE,),
    )


def _replay(folder: Path, fresh: Fresh, frames: int) -> Run:
    async def once() -> float:
        made = fresh()
        data = folder / f"data-{made.name}"
        data.mkdir()
        settings = Settings.model_validate({"data_dir": data, "replay": {"max_backlog": 0}})
        await _make_broker(data)
        progress = Progress()
        began = time.perf_counter()
        await run_replay(settings, ReplayRequest(str(made), "bench"), progress)
        assert progress.accepted == frames
        return rate(frames, began)

    return once


def _bare(folder: Path, fresh: Fresh, frames: int) -> Run:
    async def once() -> float:
        made = fresh()
        data = folder / f"data-{made.name}"
        data.mkdir()
        files = iter(sorted(made.iterdir()))
        broker, store = EmbeddedBroker(embedded_file(data), load_topics()), FolderFrameStore(data / "frames")
        publisher = await broker.publisher()
        began = time.perf_counter()

        async def work() -> None:
            for path in files:
                event = await _stored(store, await asyncio.to_thread(path.read_bytes))
                await publisher.publish([_record(event)])

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        found = rate(frames, began)
        await publisher.close()
        await broker.close()
        await store.close()
        return found

    return once


async def _stored(store: FolderFrameStore, data: bytes) -> FrameCaptured:
    sha256, moment = hashlib.sha256(data).hexdigest(), datetime.now(UTC)
    uri = await store.put(data, sha256=sha256, media_type="image/jpeg")
    image = ImageRef(uri=uri, sha256=sha256, size_bytes=len(data), media_type="image/jpeg", width=1_280, height=960)
    frame = frame_id("bench", moment, sha256)
    return FrameCaptured(frame_id=frame, device_id="bench", captured_at=moment, received_at=moment, image=image)


def _record(event: FrameCaptured) -> OutRecord:
    return event_record(
        FRAMES_BACKFILL,
        event,
        id=event.frame_id,
        source="/standgale/bench",
        subject=str(event.frame_id),
        time=event.received_at,
        key=event.device_id,
    )


async def _make_broker(data: Path) -> None:
    broker = EmbeddedBroker(embedded_file(data), load_topics())
    publisher = await broker.publisher()
    await publisher.publish([])
    await publisher.close()
    await broker.close()
