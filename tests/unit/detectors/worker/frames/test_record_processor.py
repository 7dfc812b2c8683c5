"""What becomes of a frame that fails: judged by its neighbours, by a known good picture, and by what happened apart."""

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
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE
from standgale.testing.waiting import until

SOURCE = TopicPartition(FRAMES_LIVE, 3)
TIMEOUT_S = 30.0


class FakePipeline:
    """Passes, or fails, on the known good picture."""

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
        """Nothing to give back."""

    @property
    def ref(self) -> ModelRef:
        return ModelRef(name="model", version=self.version)

    @property
    def model(self) -> SimpleNamespace:
        return SimpleNamespace(card=SimpleNamespace(name="model", version=self.version))


@dataclass
class FakeQuarantine:
    suspect: bool = False
    proof_is_killed: bool = False

    def is_suspect(self, _answer: UUID) -> bool:
        return self.suspect

    async def try_proof_image(self, _served: LoadedModel) -> None:
        if self.proof_is_killed:
            raise EngineKilledError("killed")


class FakeAttempt:
    """Answers unless ``error`` says otherwise; then a suspect is none any more."""

    def __init__(self) -> None:
        self.quarantine = FakeQuarantine()
        self.error: Callable[[LoadedModel], Exception | None] = lambda _served: None
        self.tries = 0

    async def detect(self, record: InRecord, frame: FrameCaptured, served: LoadedModel) -> FrameOutcome:
        self.tries += 1
        await asyncio.sleep(0)
        if (error := self.error(served)) is not None:
            raise error
        self.quarantine.suspect = False
        return FrameOutcome((OutRecord("detections", "drone", served.ref.version.encode()),))

    def make_dead_letter(self, record: InRecord, error: Exception, attempts: int, model: str) -> FrameOutcome:
        return FrameOutcome((OutRecord("frames.dead", "drone", str(attempts).encode()),), dead_reason=error_code(error))


class Stand:
    """A settler with nothing real around it."""

    def __init__(self, **policy: float) -> None:
        self.served = FakeLoaded()
        self.roster = Roster(cast(LoadedModel, self.served))
        self.attempt = FakeAttempt()
        self.in_progress = FramesInProgress(max_frames=100)
        self.stop = asyncio.Event()
        self.health = Health().part("settling")
        self.health.set_ready()
        retry = RetrySettings(first_delay_s=0.001, max_delay_s=0.01, **policy)  # type: ignore[arg-type]
        work = ConsumerContext(retry, self.stop, self.health, "detector")
        self.processor = RecordProcessor(
            self.in_progress, work, cast(FrameAttempt, self.attempt), self.roster, 1_000_000
        )
        self.queue: PartitionQueue = self.in_progress.queue(3)
        self.queue.window._size = 100
        self.queue.start_assignment(SOURCE, 1)
        self._offset = 0

    def case(self, *headers: tuple[str, bytes]) -> RecordTask:
        record = InRecord(*SOURCE, self._offset, 0, "drone", b"", headers, 1)
        self._offset += 1
        entry = PendingRecord.from_record(record)
        self.queue.append(entry)
        return RecordTask(self.queue, entry, record)

    def answering(self) -> tuple[RecordTask, asyncio.Task[None]]:
        case = self.case()
        frame_id = uuid4()
        image = SimpleNamespace(size_bytes=10, width=1, height=1)
        frame = SimpleNamespace(frame_id=frame_id, device_id="drone", job_id=None, image=image)
        answer = DetectionsKey(str(frame_id), str(frame_id), live=True)
        self.roster.acquire(self.roster.stable)
        self.queue.claim_event(case.pending, answer)
        wanted = ToProcess(cast(FrameCaptured, frame), self.roster.stable, answer)
        return case, asyncio.create_task(self.processor.process(case, wanted))


def refused(case: RecordTask) -> str | None:
    assert case.pending.outcome is not None
    return case.pending.outcome.dead_reason


async def test_frame_that_fails_is_dead_when_proof_image_succeeds() -> None:
    stand = Stand()
    stand.attempt.error = lambda _served: InferenceError("overflow")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "INFERENCE_ERROR"
    assert stand.attempt.tries == 3
    assert case.pending.event_key is None
    assert stand.health.reason is None


async def test_frame_is_held_while_proof_image_fails_and_processed_after() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.attempt.error = lambda _served: InferenceError("device lost")
    case, task = stand.answering()
    await until(lambda: stand.attempt.tries > 6)
    assert stand.in_progress.held_partitions == [3]
    assert "device lost" in (stand.health.reason or "")
    stand.attempt.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    assert (stand.in_progress.held_partitions, stand.health.reason) == ([], None)


async def test_frame_with_killed_trials_is_dead_when_proof_image_succeeds() -> None:
    stand = Stand()
    stand.attempt.quarantine.suspect = True
    stand.attempt.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "ENGINE_OUT_OF_MEMORY"
    assert stand.attempt.tries == 3


async def test_frame_with_killed_trials_is_held_while_proof_image_is_killed() -> None:
    stand = Stand()
    stand.attempt.quarantine = FakeQuarantine(suspect=True, proof_is_killed=True)
    stand.attempt.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    # That others pass in the worker itself says nothing about the memory for a second model.
    await until(lambda: stand.attempt.tries > 6)
    assert "SIGKILL" in (stand.health.reason or "")
    stand.stop.set()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert case.pending.outcome is None


async def test_suspect_that_succeeds_closes_the_breaker_of_trials() -> None:
    stand = Stand(min_dead=4)
    stand.attempt.quarantine.suspect = True
    stand.attempt.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    for _ in range(3):
        case, task = stand.answering()
        await asyncio.wait_for(task, TIMEOUT_S)
        assert refused(case) == "ENGINE_OUT_OF_MEMORY"
    case, task = stand.answering()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or ""))
    stand.attempt.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    stand.attempt.quarantine.suspect = True
    stand.attempt.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "ENGINE_OUT_OF_MEMORY"


async def test_held_frame_that_succeeds_as_suspect_releases_other_frames() -> None:
    stand = Stand(min_dead=4)
    stand.attempt.error = lambda _served: InferenceError("overflow")
    for _ in range(3):
        await asyncio.wait_for(stand.answering()[1], TIMEOUT_S)
    case, task = stand.answering()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or ""))
    stand.attempt.quarantine.suspect = True
    stand.attempt.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    assert stand.processor._judge_of(stand.roster.stable)._open is None


async def test_held_frame_takes_newly_rolled_out_model() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.attempt.error = lambda served: None if served.ref.version == "2.0.0" else InferenceError("broken model")
    case, task = stand.answering()
    await until(lambda: stand.in_progress.held_partitions == [3])
    better = cast(LoadedModel, FakeLoaded("2.0.0"))
    stand.roster._draining[cast(LoadedModel, stand.served)] = task
    stand.roster.set_models(better, None, None)
    await asyncio.wait_for(task, TIMEOUT_S)
    outcome = case.pending.outcome
    assert outcome is not None
    assert [output.value for output in outcome.outputs] == [b"2.0.0"]
    assert stand.served.frames == better.frames == 0
    assert case.pending.event_key is not None
    assert stand.queue.window.contains(case.pending.event_key)


async def test_replaced_model_is_not_kept_in_memory_by_waiting_frame() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.attempt.error = lambda served: None if served.ref.version == "2.0.0" else InferenceError("broken model")
    _, task = stand.answering()
    await until(lambda: stand.in_progress.held_partitions == [3])
    former = weakref.ref(stand.served)
    stand.roster.set_models(cast(LoadedModel, FakeLoaded("2.0.0")), None, None)
    stand.served = FakeLoaded("unused")
    await asyncio.wait_for(task, TIMEOUT_S)
    await asyncio.gather(*stand.roster._draining.values())
    del task
    gc.collect()
    assert former() is None


async def test_frame_of_lost_partition_gets_no_outcome() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.attempt.error = lambda _served: InferenceError("device lost")
    case, task = stand.answering()
    await until(lambda: stand.in_progress.held_partitions == [3])
    stand.in_progress.drop_lost(stand.queue, [SOURCE])
    await asyncio.wait_for(task, TIMEOUT_S)
    assert case.pending.outcome is None
    assert (stand.in_progress.held_partitions, stand.health.reason) == ([], None)


async def test_breaker_holds_rejected_records_but_not_redriven_ones() -> None:
    stand = Stand(min_dead=4)
    broken = EventError("no JSON")
    cases = [stand.case() for _ in range(6)]
    tasks = [asyncio.create_task(stand.processor.reject(case, broken)) for case in cases]
    await until(lambda: stand.in_progress.held_partitions == [3])
    assert "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or "")
    assert [case.pending.outcome is not None for case in cases] == [True] * 3 + [False] * 3
    stand.stop.set()
    await asyncio.wait(tasks)
    other = Stand(min_dead=4)
    again = [other.case((GROUP_HEADER, b"detector")) for _ in range(6)]
    await asyncio.wait_for(asyncio.gather(*(other.processor.reject(case, broken) for case in again)), TIMEOUT_S)
    assert {refused(case) for case in again} == {"INVALID_EVENT"}


async def test_rejected_records_count_as_share_of_all_records() -> None:
    stand = Stand(min_dead=4)
    for _ in range(10):
        await asyncio.wait_for(stand.answering()[1], TIMEOUT_S)
    cases = [stand.case() for _ in range(10)]
    broken = EventError("no JSON")
    await asyncio.wait_for(asyncio.gather(*(stand.processor.reject(case, broken) for case in cases)), TIMEOUT_S)
    assert {refused(case) for case in cases} == {"INVALID_EVENT"}


@pytest.mark.parametrize("error", [RecordError("too small"), EventError("no picture")])
async def test_error_that_fails_by_type_is_tried_once(error: Exception) -> None:
    stand = Stand()
    stand.attempt.error = lambda _served: error
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is not None
    assert stand.attempt.tries == 1
