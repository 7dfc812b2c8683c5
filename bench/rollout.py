"""Measures what a roll-out under load costs, and checks that no frame is lost or processed twice."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree
from uuid import UUID

import yaml

from bench import pictures
from bench.frames import live_record, store_frame
from bench.measure import percentile
from bench.processes import BenchError, measured
from bench.result import RATIO, Figure, Goal, Result
from detectors.card.card import default_card_path, read_card
from detectors.settings import ModelStoreSettings
from detectors.store.open import open_model_store
from detectors.worker.rollout.activation import ActivationRequest, activate_model, rollout_progress
from detectors.worker.rollout.models_topic import activation_record, read_models, read_new_records
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import InRecord, OutRecord, Publisher, Reader, TopicPartition
from infra.broker.reading import read_between
from infra.deploy.ports import free_port
from infra.storage.frames.folder import FolderFrameStore
from schemas import topics
from schemas.cloudevents import decode
from schemas.event_base import ModelRef
from schemas.events import DetectionsMade
from schemas.timestamps import utc_now
from schemas.topics import load_topics
from standgale.children import run_child, standgale_command

_WORKERS, _DEVICES = 2, 16
_SIZE = (640, 640)
_SCENES = 4
_SHARE = 0.7
_WINDOW_S = 0.5
_MARGIN_S = 1.0
_TIMEOUT_S = 120.0
_LOOK_S = 0.05
_NOTES = (
    f"{_WORKERS} detectors as separate processes with one engine thread each, embedded broker, folder stores, the "
    f"model that ships; {_SIZE[0]}×{_SIZE[1]} JPEG frames of {_DEVICES} devices at {_SHARE:.0%} of what the detectors "
    "processed in a burst before. The second version is the same file under another number, so both cost the same.",
    "Wrong version: neither of the two, or the old one after the new one in a partition. That events are those "
    "of the version they name is shown in "
    "tests/integration/detectors/worker/rollout/test_activation.py, with versions that detect differently.",
    f"Rates are those of windows of {_WINDOW_S:g} s, by the commit of the events; lowest rates are over the mean "
    "before the activation. Latency: from publishing a frame to the commit of its event.",
)


@dataclass(frozen=True, slots=True)
class _Load:
    """Says how many frames find the rate, and how many seconds of steady load surround the activation."""

    burst: int
    before_s: float
    after_s: float


def run(quick: bool) -> Result:
    """Measure one roll-out; quick: a shorter load around it."""
    load = _Load(60, 4.0, 6.0) if quick else _Load(120, 10.0, 12.0)
    return measured(lambda folder: _run(folder, load))


async def _run(folder: Path, load: _Load) -> Result:
    old, new = await _versions(folder)
    async with _fleet(folder, old) as fleet:
        await fleet.burst(load.burst)
        rate = await fleet.burst(load.burst) * _SHARE
        started = time.time()
        steady = asyncio.create_task(fleet.steady(rate, load.before_s + load.after_s))
        await asyncio.sleep(load.before_s)
        activated = time.time()
        await fleet.roll_out(new)
        done = time.time()
        await steady
        records = await fleet.detections_events()
    seen = _Seen(fleet.published, records, _version(old), _version(new))
    return Result("rollout", "Roll-out under load", _figures(seen, started, activated, done), _NOTES)


def _version(card: Path) -> ModelRef:
    found = read_card(card)
    return ModelRef(name=found.name, version=found.version)


def _figures(seen: _Seen, started: float, activated: float, done: float) -> tuple[Figure, ...]:
    none = Goal(1, "below")
    before, during = (started + _MARGIN_S, activated), (activated, done + _MARGIN_S)
    steady = seen.rates(*before)
    mean = sum(steady) / len(steady)
    return (
        Figure("frames sent", len(seen.published), "frames"),
        Figure("frames lost", seen.lost, "frames", none),
        Figure("frames processed twice", seen.doubled, "frames", none),
        Figure("events under a wrong version", seen.wrong, "frames", none),
        Figure("events of the new version", seen.by_new, "frames"),
        Figure("from activation to the last detector serving it", done - activated, "s"),
        Figure("rate before", mean, "frames/s"),
        Figure("lowest rate before", min(steady) / mean, RATIO),
        Figure("lowest rate during", min(seen.rates(*during)) / mean, RATIO),
        Figure("p95 latency before", seen.p95_ms(*before), "ms"),
        Figure("p95 latency during", seen.p95_ms(*during), "ms"),
    )


class _Seen:
    """Evaluates the detections events; times are seconds of the wall clock."""

    def __init__(
        self, published: Mapping[UUID, float], records: Sequence[InRecord], old: ModelRef, new: ModelRef
    ) -> None:
        self.published = published
        self._frames: list[tuple[float, UUID]] = []
        self.wrong = self.by_new = 0
        changed: set[int] = set()
        for record in records:
            event = decode(record.headers, record.value, DetectionsMade)
            self._frames.append((record.timestamp_ms / 1_000, event.frame_id))
            if event.model == new:
                self.by_new += 1
                changed.add(record.partition)
            elif event.model != old or record.partition in changed:
                self.wrong += 1
        counts = Counter(frame for _, frame in self._frames)
        self.lost = len(published.keys() - counts.keys())
        self.doubled = sum(count - 1 for count in counts.values())

    def rates(self, first: float, end: float) -> list[float]:
        """Return events per second in each whole window between two moments. Raises BenchError when there is none."""
        windows = int((end - first) / _WINDOW_S)
        if not windows:
            raise BenchError(f"{end - first:.2f} s are too short for a window of {_WINDOW_S:g} s")
        counts = [0] * windows
        for moment, _ in self._frames:
            place = int((moment - first) // _WINDOW_S)
            if 0 <= place < windows:
                counts[place] += 1
        return [count / _WINDOW_S for count in counts]

    def p95_ms(self, first: float, end: float) -> float:
        """Return the 95th percentile for the frames that were published between two moments."""
        times = [
            (moment - self.published[frame]) * 1_000
            for moment, frame in self._frames
            if first <= self.published[frame] < end
        ]
        return percentile(times, 95)


async def _versions(folder: Path) -> tuple[Path, Path]:
    """Publish the shipped model and a second version of it to the model store, and return their cards."""
    old, new = default_card_path(), folder / "made" / "model.yaml"
    copytree(old.parent, new.parent)
    fields = yaml.safe_load(new.read_text(encoding="utf-8"))
    new.write_text(yaml.safe_dump({**fields, "version": f"{fields['version']}-next"}), encoding="utf-8")
    store = open_model_store(ModelStoreSettings(), folder)
    for card in (old, new):
        await store.publish(card)
    await store.close()
    return old, new


@dataclass(slots=True)
class _Fleet:
    """Runs detectors, publishes and reads, and keeps when each frame was published."""

    store: FolderFrameStore
    publisher: Publisher
    reader: Reader
    published: dict[UUID, float] = field(default_factory=dict)

    async def burst(self, frames: int) -> float:
        """Publish ``frames`` at once, and return the frames per second."""
        records = [await self._frame() for _ in range(frames)]
        start = time.perf_counter()
        await self.publisher.publish(records)
        await self.detections_events()
        return frames / (time.perf_counter() - start)

    async def steady(self, rate: float, seconds: float) -> None:
        """Publish ``rate`` frames per second, on time whatever the detectors do."""
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += 1 / rate
                group.create_task(self.publisher.publish([await self._frame()]))

    async def roll_out(self, card: Path) -> None:
        """Activate the version of ``card``; returns when every detector serves it."""
        state = await read_models(self.reader)
        wanted = activate_model(ActivationRequest("default", "bench"), None, _version(card), read_card(card).sha256)
        await self.publisher.publish([activation_record(wanted)])
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            await read_new_records(self.reader, state, _LOOK_S)
            found = rollout_progress(state, wanted, utc_now())
            if found.outcome == "done" and len(found.ready) == _WORKERS:
                return
            if found.refused or time.monotonic() > deadline:
                raise BenchError(f"the roll-out was not done within {_TIMEOUT_S:g} s: {found}")

    async def detections_events(self) -> list[InRecord]:
        """Return all detections events when there are as many as frames. Raises BenchError when they do not come."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            bounds = await self.reader.bounds(topics.DETECTIONS)
            if sum(end - first for first, end in bounds.values()) >= len(self.published):
                break
            if time.monotonic() > deadline:
                raise BenchError(f"not all of {len(self.published)} frames were processed within {_TIMEOUT_S:g} s")
            await asyncio.sleep(_LOOK_S)
        return [
            record
            for number, (first, end) in bounds.items()
            async for record in read_between(self.reader, TopicPartition(topics.DETECTIONS, number), first, end)
        ]

    async def _frame(self) -> OutRecord:
        """Store a new frame; its bytes are those of one of a few scenes."""
        number = len(self.published)
        picture = pictures.scene(*_SIZE, number % _SCENES)
        frame = await store_frame(self.store, picture, number, devices=_DEVICES, received_at=utc_now())
        self.published[frame.frame_id] = time.time()
        return live_record(frame)


@asynccontextmanager
async def _fleet(folder: Path, own: Path) -> AsyncIterator[_Fleet]:
    """Start detectors with the model of the card ``own``, until they are ready."""
    async with AsyncExitStack() as stack:
        broker = EmbeddedBroker(folder / "broker.sqlite", load_topics())
        stack.push_async_callback(broker.close)
        store = FolderFrameStore(folder / "frames")
        stack.push_async_callback(store.close)
        publisher, reader = await broker.publisher(), await broker.reader()
        for number in range(_WORKERS):
            port = free_port()
            command = standgale_command("detector", "--instance-id", f"worker-{number}")
            log, ready = folder / f"worker-{number}.log", f"http://127.0.0.1:{port}/health/ready"
            await stack.enter_async_context(run_child(command, _environment(folder, own, port), log, ready))
        yield _Fleet(store, publisher, reader)
        await publisher.close()
        await reader.close()


def _environment(folder: Path, own: Path, port: int) -> dict[str, str]:
    settings = {
        "DATA_DIR": str(folder),
        "DETECTOR__MODEL": str(own),
        "DETECTOR__THREADS": "1",
        "DETECTOR__REPORT_INTERVAL_S": "5",
        "TELEMETRY__HEALTH_PORT": str(port),
        "TELEMETRY__LOG_LEVEL": "WARNING",
    }
    return {**os.environ, **{f"STANDGALE_{name}": value for name, value in settings.items()}}
