"""Sets up a broker, a frame store and a model in one folder, and runs workers of this process on them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from detectors.model.loading import LoadRequest, load_model
from detectors.settings import DetectorSettings
from detectors.worker.worker import DetectorWorker, WorkerParts
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.event_records import event_record
from infra.broker.port import Broker, InRecord, OutRecord
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from infra.storage.frames.folder import FolderFrameStore
from schemas import ids, topics
from schemas.cloudevents import decode
from schemas.events import DeadLetter, DetectionsMade, FrameCaptured, ImageRef
from schemas.topics import TopicSpec, load_topics
from standgale.testing.graphs import write_model
from tests.harnesses.sink_runs import publish, records_of

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
TIMEOUT_S = 60.0


def picture(x: int, colour: tuple[int, int, int] = (0, 0, 255)) -> bytes:
    """Return a grey 400×300 PNG with one 40×30 rectangle whose upper left corner is at (x, 100)."""
    image = np.full((300, 400, 3), 90, np.uint8)
    image[100:130, x : x + 40] = colour
    return cv2.imencode(".png", image)[1].tobytes()


class WorkerSite:
    """Publishes frames, runs workers, and reads their detections events and dead letters."""

    def __init__(self, folder: Path, open_broker: Callable[[dict[str, TopicSpec]], Broker] | None = None) -> None:
        self.topics = load_topics()
        self.broker = open_broker(self.topics) if open_broker else EmbeddedBroker(folder / "broker.sqlite", self.topics)
        self.store = FolderFrameStore(folder / "frames")
        self.card = write_model(folder / "model")
        self.health = Health()

    async def close(self) -> None:
        """Close the broker and the store."""
        await self.broker.close()
        await self.store.close()

    def parts(self, **changes: object) -> WorkerParts:
        parts = WorkerParts(
            broker=self.broker,
            store=self.store,
            load_model=partial(load_model, LoadRequest(self.card, "onnxruntime", 1)),
            settings=DetectorSettings(),
            retry=RetrySettings(first_delay_s=0.02, max_delay_s=0.1),
            max_event_bytes=self.topics[topics.DETECTIONS].max_message_bytes,
        )
        return replace(parts, **changes)  # type: ignore[arg-type]  # fields by name, as the tests give them

    @asynccontextmanager
    async def run_workers(self, *workers: WorkerParts) -> AsyncIterator[None]:
        """Run workers inside the block, and drain them at its end."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number, parts in enumerate(workers):
                group.create_task(DetectorWorker(parts).run(stop, self.health.part(f"worker-{number}")))
            try:
                yield
            finally:
                stop.set()

    async def frame(self, device: str, number: int, data: bytes | None = None, *, stored: bool = True) -> FrameCaptured:
        data = data or picture(10 + number % 40 * 8)
        sha256 = hashlib.sha256(data).hexdigest()
        uri = await self.store.put(data, sha256=sha256, media_type="image/png") if stored else "file:///nowhere/x.png"
        captured_at = START + timedelta(seconds=number)
        image = ImageRef(uri=uri, sha256=sha256, size_bytes=len(data), media_type="image/png", width=400, height=300)
        return FrameCaptured(
            frame_id=ids.frame_id(device, captured_at, sha256),
            device_id=device,
            captured_at=captured_at,
            received_at=captured_at,
            image=image,
        )

    @staticmethod
    def record(frame: FrameCaptured, topic: str = topics.FRAMES_LIVE) -> OutRecord:
        subject, key = str(frame.frame_id), frame.device_id
        return event_record(
            topic, frame, id=frame.frame_id, source="test", subject=subject, time=frame.captured_at, key=key
        )

    async def publish(self, *frames: FrameCaptured, topic: str = topics.FRAMES_LIVE) -> None:
        await self.publish_records(*(self.record(frame, topic) for frame in frames))

    async def publish_records(self, *records: OutRecord) -> None:
        await publish(self.broker, *records)

    async def read(self, topic: str) -> list[InRecord]:
        reader = await self.broker.reader()
        found = await records_of(reader, topic)
        await reader.close()
        return found

    async def detections(self) -> list[DetectionsMade]:
        return [decode(r.headers, r.value, DetectionsMade) for r in await self.read(topics.DETECTIONS)]

    async def dead_letters(self) -> list[DeadLetter]:
        return [decode(r.headers, r.value, DeadLetter) for r in await self.read(topics.FRAMES_DEAD)]

    async def wait_for(self, count: Callable[[], object], wanted: int) -> None:
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while len(await count()) < wanted:  # type: ignore[misc,arg-type]  # events or dead letters
            assert asyncio.get_running_loop().time() < deadline, f"{await count()} after {TIMEOUT_S} s"  # type: ignore[misc]
            await asyncio.sleep(0.05)
