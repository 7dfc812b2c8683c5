"""Checks the outcome of frames that fail: other frames, a known good image and trials decide it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast
from uuid import UUID, uuid4

import pytest

from detectors.errors import EngineKilledError, InferenceError
from detectors.worker.frames.classify import ToProcess
from detectors.worker.frames.frame_attempt import FrameAttempt
from detectors.worker.frames.record_processor import RecordProcessor, RecordTask
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.partitions.window import DetectionsKey
from detectors.worker.pipeline.serving import LoadedModel, Roster
from infra.broker.port import InRecord, OutRecord, TopicPartition
from infra.errors import RecordError
from infra.failure.error_texts import error_code
from infra.failure.redrive import GROUP_HEADER
from infra.failure.retry import ConsumerContext
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.errors import EventError
from schemas.event_base import ModelRef
from schemas.events import DetectOptions, FrameCaptured
from schemas.topics import FRAMES_LIVE
from standgale.testing.waiting import until

SOURCE = TopicPartition(FRAMES_LIVE, 3)
TIMEOUT_S = 30.0


class FakePipeline:
    """Succeeds, or fails, on the known good image."""

    stalled_s = 0.0
    fails = False

    async def detect(self, *_: object) -> None:
        if self.fails:
            raise InferenceError("broken")


@dataclass(eq=False)
class FakeLoaded:
    version: str = "1.0.0"
    pipeline: FakePipeline = field(default_factory=FakePipeline)
    frames: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """Do nothing."""

    @property
    def ref(self) -> ModelRef:
        return ModelRef(name="model", version=self.version)

    @property
    def model(self) -> SimpleNamespace:
        return SimpleNamespace(card=SimpleNamespace(name="model", version=self.version))


@dataclass
class FakeQuarantine:
    suspect: bool = False
    proof_image_is_killed: bool = False

    def is_suspect(self, _event_id: UUID) -> bool:
        return self.suspect

    async def try_proof_image(self, _loaded: LoadedModel) -> None:
        if self.proof_image_is_killed:
            raise EngineKilledError("killed")


class FakeAttempt:
    """Succeeds unless ``error`` returns an error; a suspect that succeeds is none any more."""

    def __init__(self) -> None:
        self.quarantine = FakeQuarantine()
        self.error: Callable[[LoadedModel], Exception | None] = lambda _loaded: None
        self.tries = 0

    async def detect(self, record: InRecord, frame: FrameCaptured, loaded: LoadedModel) -> FrameOutcome:
        self.tries += 1
        await asyncio.sleep(0)
        if (error := self.error(loaded)) is not None:
            raise error
        self.quarantine.suspect = False
        return FrameOutcome((OutRecord("detections", "drone", loaded.ref.version.encode()),))

    def make_dead_letter(self, record: InRecord, error: Exception, attempts: int, model: ModelRef) -> FrameOutcome:
        return FrameOutcome((OutRecord("frames.dead", "drone", str(attempts).encode()),), dead_reason=error_code(error))


class ProcessorHarness:
    """Runs a record processor on fakes."""

    def __init__(self, **policy: float) -> None:
        self.loaded = FakeLoaded()
        self.roster = Roster(cast(LoadedModel, self.loaded))
        self.attempt = FakeAttempt()
        self.in_progress = FramesInProgress(max_frames=100)
        self.stop = asyncio.Event()
        self.health = Health().part("detector")
        self.health.set_ready()
        retry = RetrySettings(first_delay_s=0.001, max_delay_s=0.01, **policy)  # type: ignore[arg-type]
        context = ConsumerContext(retry, self.stop, self.health, "detector")
        self.processor = RecordProcessor(
            self.in_progress, context, cast(FrameAttempt, self.attempt), self.roster, 1_000_000
        )
        self.queue: PartitionQueue = self.in_progress.queue(3)
        self.queue.window._size = 100
        self.queue.start_assignment(SOURCE, 1)
        self._offset = 0

    def task(self, *headers: tuple[str, bytes]) -> RecordTask:
        record = InRecord(*SOURCE, self._offset, 0, "drone", b"", headers, 1)
        self._offset += 1
        pending = PendingRecord.from_record(record)
        self.queue.append(pending)
        return RecordTask(self.queue, pending, record)

    def start(self) -> tuple[RecordTask, asyncio.Task[None]]:
        task = self.task()
        frame_id = uuid4()
        image = SimpleNamespace(size_bytes=10, width=1, height=1)
        frame = SimpleNamespace(
            frame_id=frame_id,
            device_id="drone",
            job_id=None,
            image=image,
            model=None,
            options=DetectOptions(),
        )
        event_key = DetectionsKey(str(frame_id), str(frame_id), live=True)
        self.roster.acquire(self.roster.stable)
        self.queue.claim_event(task.pending, event_key)
        wanted = ToProcess(cast(FrameCaptured, frame), self.roster.stable, event_key)
        return task, asyncio.create_task(self.processor.process(task, wanted))


def dead_reason(task: RecordTask) -> str | None:
    assert task.pending.outcome is not None
    return task.pending.outcome.dead_reason


async def test_frame_that_fails_is_dead_when_proof_image_succeeds() -> None:
    harness = ProcessorHarness()
    harness.attempt.error = lambda loaded: InferenceError("overflow")
    task, running = harness.start()
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) == "INFERENCE_ERROR"
    assert harness.attempt.tries == 3
    assert task.pending.event_key is None
    assert harness.health.reason is None


async def test_frame_is_held_while_proof_image_fails_and_processed_after() -> None:
    harness = ProcessorHarness()
    harness.loaded.pipeline.fails = True
    harness.attempt.error = lambda loaded: InferenceError("device lost")
    task, running = harness.start()
    await until(lambda: harness.attempt.tries > 6)
    assert harness.in_progress.held_partitions == [3]
    assert "device lost" in (harness.health.reason or "")
    harness.attempt.error = lambda _loaded: None
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) is None
    assert (harness.in_progress.held_partitions, harness.health.reason) == ([], None)


async def test_frame_with_killed_trials_is_dead_when_proof_image_succeeds() -> None:
    harness = ProcessorHarness()
    harness.attempt.quarantine.suspect = True
    harness.attempt.error = lambda loaded: EngineKilledError("was ended by SIGKILL")
    task, running = harness.start()
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) == "ENGINE_OUT_OF_MEMORY"
    assert harness.attempt.tries == 3


async def test_frame_with_killed_trials_is_held_while_proof_image_is_killed() -> None:
    harness = ProcessorHarness()
    harness.attempt.quarantine = FakeQuarantine(suspect=True, proof_image_is_killed=True)
    harness.attempt.error = lambda loaded: EngineKilledError("was ended by SIGKILL")
    task, running = harness.start()
    # That other frames succeed in the worker does not show that there is memory for a second model.
    await until(lambda: harness.attempt.tries > 6)
    assert "SIGKILL" in (harness.health.reason or "")
    harness.stop.set()
    await asyncio.wait_for(running, TIMEOUT_S)
    assert task.pending.outcome is None


async def test_suspect_that_succeeds_closes_the_breaker_of_trials() -> None:
    harness = ProcessorHarness(min_dead=4)
    harness.attempt.quarantine.suspect = True
    harness.attempt.error = lambda loaded: EngineKilledError("was ended by SIGKILL")
    for _ in range(3):
        task, running = harness.start()
        await asyncio.wait_for(running, TIMEOUT_S)
        assert dead_reason(task) == "ENGINE_OUT_OF_MEMORY"
    task, running = harness.start()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (harness.health.reason or ""))
    harness.attempt.error = lambda _loaded: None
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) is None
    harness.attempt.quarantine.suspect = True
    harness.attempt.error = lambda loaded: EngineKilledError("was ended by SIGKILL")
    task, running = harness.start()
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) == "ENGINE_OUT_OF_MEMORY"


async def test_held_frame_that_succeeds_as_suspect_releases_other_frames() -> None:
    harness = ProcessorHarness(min_dead=4)
    harness.attempt.error = lambda loaded: InferenceError("overflow")
    for _ in range(3):
        await asyncio.wait_for(harness.start()[1], TIMEOUT_S)
    task, running = harness.start()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (harness.health.reason or ""))
    harness.attempt.quarantine.suspect = True
    harness.attempt.error = lambda _loaded: None
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) is None
    assert harness.processor._judge_of(harness.roster.stable)._open is None


async def test_held_frame_takes_newly_rolled_out_model() -> None:
    harness = ProcessorHarness()
    harness.loaded.pipeline.fails = True
    harness.attempt.error = lambda loaded: None if loaded.ref.version == "2.0.0" else InferenceError("broken model")
    task, running = harness.start()
    await until(lambda: harness.in_progress.held_partitions == [3])
    newer = cast(LoadedModel, FakeLoaded("2.0.0"))
    harness.roster._draining[cast(LoadedModel, harness.loaded)] = running
    harness.roster.set_models(newer, None, None)
    await asyncio.wait_for(running, TIMEOUT_S)
    outcome = task.pending.outcome
    assert outcome is not None
    assert [output.value for output in outcome.outputs] == [b"2.0.0"]
    assert harness.loaded.frames == newer.frames == 0
    assert task.pending.event_key is not None
    assert harness.queue.window.contains(task.pending.event_key)


async def test_replaced_model_is_not_kept_in_memory_by_waiting_frame() -> None:
    harness = ProcessorHarness()
    harness.loaded.pipeline.fails = True
    harness.attempt.error = lambda loaded: None if loaded.ref.version == "2.0.0" else InferenceError("broken model")
    _, running = harness.start()
    await until(lambda: harness.in_progress.held_partitions == [3])
    former = weakref.ref(harness.loaded)
    harness.roster.set_models(cast(LoadedModel, FakeLoaded("2.0.0")), None, None)
    harness.loaded = FakeLoaded("unused")
    await asyncio.wait_for(running, TIMEOUT_S)
    await asyncio.gather(*harness.roster._draining.values())
    del running
    gc.collect()
    assert former() is None


async def test_frame_of_lost_partition_gets_no_outcome() -> None:
    harness = ProcessorHarness()
    harness.loaded.pipeline.fails = True
    harness.attempt.error = lambda loaded: InferenceError("device lost")
    task, running = harness.start()
    await until(lambda: harness.in_progress.held_partitions == [3])
    harness.in_progress.drop_lost(harness.queue, [SOURCE])
    await asyncio.wait_for(running, TIMEOUT_S)
    assert task.pending.outcome is None
    assert (harness.in_progress.held_partitions, harness.health.reason) == ([], None)


async def test_breaker_holds_rejected_records_but_not_redriven_ones() -> None:
    harness = ProcessorHarness(min_dead=4)
    broken = EventError("no JSON")
    tasks = [harness.task() for _ in range(6)]
    running_tasks = [asyncio.create_task(harness.processor.reject(task, broken)) for task in tasks]
    await until(lambda: harness.in_progress.held_partitions == [3])
    assert "STANDGALE_RETRY__MAX_DEAD_SHARE" in (harness.health.reason or "")
    assert [task.pending.outcome is not None for task in tasks] == [True] * 3 + [False] * 3
    harness.stop.set()
    await asyncio.wait(running_tasks)
    other = ProcessorHarness(min_dead=4)
    again = [other.task((GROUP_HEADER, b"detector")) for _ in range(6)]
    await asyncio.wait_for(asyncio.gather(*(other.processor.reject(task, broken) for task in again)), TIMEOUT_S)
    assert {dead_reason(task) for task in again} == {"INVALID_EVENT"}


async def test_rejected_records_count_as_share_of_all_records() -> None:
    harness = ProcessorHarness(min_dead=4)
    for _ in range(10):
        await asyncio.wait_for(harness.start()[1], TIMEOUT_S)
    tasks = [harness.task() for _ in range(10)]
    broken = EventError("no JSON")
    await asyncio.wait_for(asyncio.gather(*(harness.processor.reject(task, broken) for task in tasks)), TIMEOUT_S)
    assert {dead_reason(task) for task in tasks} == {"INVALID_EVENT"}


@pytest.mark.parametrize("error", [RecordError("too small"), EventError("no picture")])
async def test_error_that_fails_by_type_is_tried_once(error: Exception) -> None:
    harness = ProcessorHarness()
    harness.attempt.error = lambda loaded: error
    task, running = harness.start()
    await asyncio.wait_for(running, TIMEOUT_S)
    assert dead_reason(task) is not None
    assert harness.attempt.tries == 1
