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
from detectors.worker.frames.classify import Wanted
from detectors.worker.frames.frame_attempt import Answerer
from detectors.worker.frames.record_processor import Case, Settler
from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Entry, Lane, Outcome
from detectors.worker.partitions.window import AnswerKey
from detectors.worker.pipeline.serving import Roster, Served
from infra.broker.port import InRecord, OutRecord, TopicPartition
from infra.errors import RecordError
from infra.failure.error_texts import error_code
from infra.failure.redrive import GROUP_HEADER
from infra.failure.retry import ConsumerContext
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from schemas.errors import EventError
from schemas.events import FrameCaptured, ModelRef
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
class FakeServed:
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
class FakeGuard:
    suspect: bool = False
    proof_is_killed: bool = False

    def suspects_frame(self, _answer: UUID) -> bool:
        return self.suspect

    async def prove_apart(self, _served: Served) -> None:
        if self.proof_is_killed:
            raise EngineKilledError("killed")


class FakeAnswerer:
    """Answers unless ``error`` says otherwise; then a suspect is none any more."""

    def __init__(self) -> None:
        self.guard = FakeGuard()
        self.error: Callable[[Served], Exception | None] = lambda _served: None
        self.tries = 0

    async def answer(self, record: InRecord, frame: FrameCaptured, served: Served) -> Outcome:
        self.tries += 1
        await asyncio.sleep(0)
        if (error := self.error(served)) is not None:
            raise error
        self.guard.suspect = False
        return Outcome((OutRecord("detections", "drone", served.ref.version.encode()),))

    def refuse(self, record: InRecord, error: Exception, attempts: int, model: str) -> Outcome:
        return Outcome((OutRecord("frames.dead", "drone", str(attempts).encode()),), refused=error_code(error))


class Stand:
    """A settler with nothing real around it."""

    def __init__(self, **policy: float) -> None:
        self.served = FakeServed()
        self.roster = Roster(cast(Served, self.served))
        self.answerer = FakeAnswerer()
        self.flow = Flow(max_frames=100)
        self.stop = asyncio.Event()
        self.health = Health().part("settling")
        self.health.set_ready()
        retry = RetrySettings(first_delay_s=0.001, max_delay_s=0.01, **policy)  # type: ignore[arg-type]
        work = ConsumerContext(retry, self.stop, self.health, "detector")
        self.settler = Settler(self.flow, work, cast(Answerer, self.answerer), self.roster, 1_000_000)
        self.lane: Lane = self.flow.lane(3)
        self.lane.window._size = 100
        self.lane.assigned(SOURCE, 1)
        self._offset = 0

    def case(self, *headers: tuple[str, bytes]) -> Case:
        record = InRecord(*SOURCE, self._offset, 0, "drone", b"", headers, 1)
        self._offset += 1
        entry = Entry.of(record)
        self.lane.add(entry)
        return Case(self.lane, entry, record)

    def answering(self) -> tuple[Case, asyncio.Task[None]]:
        case = self.case()
        frame_id = uuid4()
        image = SimpleNamespace(size_bytes=10, width=1, height=1)
        frame = SimpleNamespace(frame_id=frame_id, device_id="drone", job_id=None, image=image)
        answer = AnswerKey(str(frame_id), str(frame_id), live=True)
        self.roster.take(self.roster.stable)
        self.lane.answers(case.entry, answer)
        wanted = Wanted(cast(FrameCaptured, frame), self.roster.stable, answer)
        return case, asyncio.create_task(self.settler.answer(case, wanted))


def refused(case: Case) -> str | None:
    assert case.entry.outcome is not None
    return case.entry.outcome.refused


async def test_a_frame_is_dead_when_a_known_good_picture_passes_and_it_does_not() -> None:
    stand = Stand()
    stand.answerer.error = lambda _served: InferenceError("overflow")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "INFERENCE_ERROR"
    assert stand.answerer.tries == 3
    assert case.entry.answer is None
    assert stand.health.reason is None


async def test_a_frame_is_held_while_a_known_good_picture_fails_too_and_answered_when_the_engine_works() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.answerer.error = lambda _served: InferenceError("device lost")
    case, task = stand.answering()
    await until(lambda: stand.answerer.tries > 6)
    assert stand.flow.held == [3]
    assert "device lost" in (stand.health.reason or "")
    stand.answerer.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    assert (stand.flow.held, stand.health.reason) == ([], None)


async def test_a_frame_whose_trials_are_killed_is_dead_when_a_known_good_picture_is_not_killed() -> None:
    stand = Stand()
    stand.answerer.guard.suspect = True
    stand.answerer.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "ENGINE_OUT_OF_MEMORY"
    assert stand.answerer.tries == 3


async def test_a_frame_whose_trials_are_killed_is_held_while_a_known_good_picture_is_killed_too() -> None:
    stand = Stand()
    stand.answerer.guard = FakeGuard(suspect=True, proof_is_killed=True)
    stand.answerer.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    # That others pass in the worker itself says nothing about the memory for a second model.
    await until(lambda: stand.answerer.tries > 6)
    assert "SIGKILL" in (stand.health.reason or "")
    stand.stop.set()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert case.entry.outcome is None


async def test_a_suspect_that_passes_closes_the_breaker_over_what_is_tried_apart() -> None:
    stand = Stand(min_dead=4)
    stand.answerer.guard.suspect = True
    stand.answerer.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    for _ in range(3):
        case, task = stand.answering()
        await asyncio.wait_for(task, TIMEOUT_S)
        assert refused(case) == "ENGINE_OUT_OF_MEMORY"
    case, task = stand.answering()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or ""))
    stand.answerer.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    stand.answerer.guard.suspect = True
    stand.answerer.error = lambda _served: EngineKilledError("was ended by SIGKILL")
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) == "ENGINE_OUT_OF_MEMORY"


async def test_a_held_frame_that_becomes_a_suspect_and_passes_holds_its_former_neighbours_no_longer() -> None:
    stand = Stand(min_dead=4)
    stand.answerer.error = lambda _served: InferenceError("overflow")
    for _ in range(3):
        await asyncio.wait_for(stand.answering()[1], TIMEOUT_S)
    case, task = stand.answering()
    await until(lambda: "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or ""))
    stand.answerer.guard.suspect = True
    stand.answerer.error = lambda _served: None
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is None
    assert stand.settler._judge_of(stand.roster.stable)._open is None


async def test_a_held_frame_goes_to_the_model_that_is_rolled_out_meanwhile() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.answerer.error = lambda served: None if served.ref.version == "2.0.0" else InferenceError("broken model")
    case, task = stand.answering()
    await until(lambda: stand.flow.held == [3])
    better = cast(Served, FakeServed("2.0.0"))
    stand.roster._draining[cast(Served, stand.served)] = task
    stand.roster.use(better, None, None)
    await asyncio.wait_for(task, TIMEOUT_S)
    outcome = case.entry.outcome
    assert outcome is not None
    assert [output.value for output in outcome.outputs] == [b"2.0.0"]
    assert stand.served.frames == better.frames == 0
    assert case.entry.answer is not None
    assert stand.lane.window.knows(case.entry.answer)


async def test_a_model_that_was_replaced_while_a_frame_waited_for_it_is_not_kept_in_memory() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.answerer.error = lambda served: None if served.ref.version == "2.0.0" else InferenceError("broken model")
    _, task = stand.answering()
    await until(lambda: stand.flow.held == [3])
    former = weakref.ref(stand.served)
    stand.roster.use(cast(Served, FakeServed("2.0.0")), None, None)
    stand.served = FakeServed("unused")
    await asyncio.wait_for(task, TIMEOUT_S)
    await asyncio.gather(*stand.roster._draining.values())
    del task
    gc.collect()
    assert former() is None


async def test_what_belongs_to_another_worker_meanwhile_is_left_alone() -> None:
    stand = Stand()
    stand.served.pipeline.fails = True
    stand.answerer.error = lambda _served: InferenceError("device lost")
    case, task = stand.answering()
    await until(lambda: stand.flow.held == [3])
    stand.flow.lost(stand.lane, [SOURCE])
    await asyncio.wait_for(task, TIMEOUT_S)
    assert case.entry.outcome is None
    assert (stand.flow.held, stand.health.reason) == ([], None)


async def test_too_many_dead_letters_hold_the_next_but_not_what_was_sent_again() -> None:
    stand = Stand(min_dead=4)
    broken = EventError("no JSON")
    cases = [stand.case() for _ in range(6)]
    tasks = [asyncio.create_task(stand.settler.refuse(case, broken)) for case in cases]
    await until(lambda: stand.flow.held == [3])
    assert "STANDGALE_RETRY__MAX_DEAD_SHARE" in (stand.health.reason or "")
    assert [case.entry.outcome is not None for case in cases] == [True] * 3 + [False] * 3
    stand.stop.set()
    await asyncio.wait(tasks)
    other = Stand(min_dead=4)
    again = [other.case((GROUP_HEADER, b"detector")) for _ in range(6)]
    await asyncio.wait_for(asyncio.gather(*(other.settler.refuse(case, broken) for case in again)), TIMEOUT_S)
    assert {refused(case) for case in again} == {"INVALID_EVENT"}


async def test_records_that_hold_no_frame_are_a_share_of_all_records() -> None:
    stand = Stand(min_dead=4)
    for _ in range(10):
        await asyncio.wait_for(stand.answering()[1], TIMEOUT_S)
    cases = [stand.case() for _ in range(10)]
    broken = EventError("no JSON")
    await asyncio.wait_for(asyncio.gather(*(stand.settler.refuse(case, broken) for case in cases)), TIMEOUT_S)
    assert {refused(case) for case in cases} == {"INVALID_EVENT"}


@pytest.mark.parametrize("error", [RecordError("too small"), EventError("no picture")])
async def test_what_fails_by_type_is_tried_once(error: Exception) -> None:
    stand = Stand()
    stand.answerer.error = lambda _served: error
    case, task = stand.answering()
    await asyncio.wait_for(task, TIMEOUT_S)
    assert refused(case) is not None
    assert stand.answerer.tries == 1
