"""Processes each pending record until it has an outcome, and holds its partition while it has to wait.

A record that fails while others succeed becomes a dead letter. When the model, the machine or the store may be the
cause, the record is held and tried again for as long as it takes (:mod:`infra.failure.verdicts` decides). A model with
which no frame succeeds is tried on a known good image: the result shows whether the frames or the model are wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from detectors.metrics import DUPLICATE_FRAMES
from detectors.worker.frames.classify import ToProcess
from detectors.worker.frames.detections_event import detections_id, detections_key
from detectors.worker.frames.frame_attempt import FrameAttempt
from detectors.worker.frames.lateness import is_live_record
from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.holds import Holds, WakeSignal
from detectors.worker.partitions.partition_queue import FrameOutcome, PartitionQueue, PendingRecord
from detectors.worker.pipeline.memory_budget import MemoryBudget
from detectors.worker.pipeline.serving import AskedModel, LoadedModel, Roster
from detectors.worker.quarantine.proof_image import PROOF_IMAGE
from detectors.worker.rollout.job_models import JobModelError, JobModels, NoJobModels
from infra.broker.port import InRecord
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text, is_transient
from infra.failure.metrics import RECORDS_FAILED
from infra.failure.retry import ConsumerContext, StoppedError
from infra.failure.verdicts import FailureHistory, Verdict, Verdicts, fails_by_type, history_of
from infra.telemetry.logs import bind
from infra.telemetry.tracing import consumer_span
from schemas.errors import EventVersionError
from schemas.events import DetectOptions, FrameCaptured

logger = logging.getLogger(__name__)

_FETCH = "fetch frame"
_FETCHED = WakeSignal()
_READ = "read frame"
_DEAD_LETTERS = "dead-letter records"


@dataclass(frozen=True, slots=True)
class RecordTask:
    """A polled record with its pending record and the queue that holds it."""

    queue: PartitionQueue
    pending: PendingRecord
    record: InRecord


class _FailuresByJudge:
    """Keeps the failures of one record for the judge that decides now; another judge starts with none."""

    def __init__(self, record: InRecord) -> None:
        self._record = record
        self._judge: Verdicts | None = None
        self._history: FailureHistory | None = None

    def history_for(self, judge: Verdicts) -> FailureHistory:
        """Return the failures that ``judge`` knows."""
        if self._judge is not judge or self._history is None:
            self.clear()
            self._judge, self._history = judge, history_of(self._record)
        return self._history

    def record_success(self, judge: Verdicts) -> None:
        """Report to ``judge`` that the record succeeded, maybe after failures."""
        if self._judge is not judge:
            self.clear()
            self._history = None
        judge.record_success(self._history)
        self._history = None

    def clear(self) -> None:
        """Remove the record from its judge: it is dead, belongs to another worker, or has another model."""
        if self._judge is not None and self._history is not None:
            self._judge.forget_record(self._history)


@dataclass(slots=True)
class _FrameState:
    """A frame, the model that was acquired for it, and its failures with that model."""

    frame: FrameCaptured
    loaded: LoadedModel
    backoff: Backoff
    failures: _FailuresByJudge
    is_job_model: bool = False
    """Whether the model was loaded for the frame's job; when that fails, the job fails, and nobody waits"""


class RecordProcessor:
    """Gives every accepted record an outcome (``FramesInProgress.finish``), or leaves it to the next worker."""

    def __init__(
        self,
        in_progress: FramesInProgress,
        context: ConsumerContext,
        attempt: FrameAttempt,
        roster: Roster,
        max_bytes: int,
        job_models: JobModels | NoJobModels | None = None,
    ) -> None:
        """``max_bytes``: the memory that all running attempts may use together."""
        self._job_models = job_models or NoJobModels()
        self._in_progress = in_progress
        self._context = context
        self.attempt = attempt
        self._roster = roster
        self._memory = MemoryBudget(max_bytes)
        self._holds = Holds(in_progress, context)
        self._judges: WeakKeyDictionary[LoadedModel, Verdicts] = WeakKeyDictionary()
        self._suspect_judge = Verdicts(context.policy)
        self._proof_lock = asyncio.Lock()

    async def process(self, task: RecordTask, wanted: ToProcess) -> None:
        """Detect on the frame of ``task``, and release the model that was acquired for it."""
        loaded = wanted.model
        if isinstance(loaded, AskedModel):
            found = await self._wait_for_model(task, loaded)
            if found is None:
                return
            loaded, is_job_model = found, True
        else:
            is_job_model = False
        failures = _FailuresByJudge(task.record)
        state = _FrameState(wanted.frame, loaded, Backoff(self._context.policy), failures, is_job_model)
        names = {"device_id": state.frame.device_id, "frame_id": str(state.frame.frame_id)}
        try:
            with bind(**names), consumer_span(task.record, group=self._context.group):
                outcome = await self._try_until_finished(task, state)
        except StoppedError as stopped:
            logger.info("a frame is left to the next worker: %s", stopped, extra=names)
            return
        finally:
            self._roster.release(state.loaded)
            state.failures.clear()
            self._holds.release(task.queue, task.pending)
        if outcome is not None:
            self._in_progress.finish(task.queue, task.pending, outcome)

    async def _wait_for_model(self, task: RecordTask, asked: AskedModel) -> LoadedModel | None:
        """Return the model that a frame of a job asks for; None when the frame has an outcome without it, or none here.

        The frame uses no slot meanwhile, and holds no partition: live frames go on.
        """
        self._in_progress.begin_wait(task.pending)
        try:
            return await self._job_models.acquire(asked, lambda: not task.pending.is_void)
        except StoppedError as stopped:
            logger.info("a frame is left to the next worker: %s", stopped)
            return None
        except JobModelError as error:
            self._count_failure(task, error)
            dead = self.attempt.make_dead_letter(task.record, error, 1, asked.ref)
            self._in_progress.finish(task.queue, task.pending, dead)
            return None
        finally:
            self._in_progress.end_wait(task.pending)

    async def reject(self, task: RecordTask, error: Exception) -> None:
        """Make a dead letter of ``task``, whose record holds no frame; hold it while too many records are dead."""
        failures = _FailuresByJudge(task.record)

        def outcome() -> FrameOutcome | str:
            self._count_failure(task, error)
            # Dead letters are counted as a share of all records, and most are frames of the stable model.
            judge = self._judge_of(self._roster.stable)
            if judge.record_failure(failures.history_for(judge), error) is Verdict.DEAD:
                return self.attempt.make_dead_letter(task.record, error, 1, self._roster.stable.ref)
            return judge.hold_reason(error)

        try:
            await self._retry_until(task, _DEAD_LETTERS, error, outcome)
        finally:
            failures.clear()

    async def wait_for_update(self, task: RecordTask, error: EventVersionError) -> None:
        """Hold ``task``, which only a newer program can read, until it goes to another worker or the process stops."""
        await self._retry_until(task, _READ, error, lambda: error_text(error))

    async def _retry_until(
        self, task: RecordTask, what: str, error: Exception, outcome: Callable[[], FrameOutcome | str]
    ) -> None:
        """Call ``outcome`` until it returns an outcome; while it returns a reason, hold ``task`` for that reason."""
        backoff = Backoff(self._context.policy)
        try:
            while not task.pending.is_void:
                found = outcome()
                if isinstance(found, FrameOutcome):
                    self._in_progress.finish(task.queue, task.pending, found)
                    return
                self._holds.hold(task.queue, task.pending, what, error_code(error), found)
                await self._holds.wait_for_retry(task.pending, backoff)
        except StoppedError as stopped:
            logger.info("a record is left to the next worker: %s", stopped)
        finally:
            self._holds.release(task.queue, task.pending)

    async def _try_until_finished(self, task: RecordTask, state: _FrameState) -> FrameOutcome | None:
        """Make attempts until there is an outcome; return None when the frame belongs to another worker."""
        image = state.frame.image
        # A running attempt needs the encoded bytes and the decoded pixels, three bytes each.
        needed_bytes = image.size_bytes + 3 * image.width * image.height
        while not task.pending.is_void:
            await self._memory.take(needed_bytes, task.queue.partition)
            error: Exception
            try:
                # Chosen before the attempt: a suspect that succeeds in its trial is no suspect after it.
                judge = self._judge_for(state)
                outcome = await self.attempt.detect(task.record, state.frame, state.loaded)
            except Exception as failure:  # noqa: BLE001 (no error of any type may lose the frame)
                error = failure
            else:
                self._record_success(state, judge)
                return outcome
            finally:
                self._memory.give(needed_bytes)
            found = await self._handle_failure(task, state, error)
            if found is not None:
                return found
        return None

    def _record_success(self, state: _FrameState, judge: Verdicts) -> None:
        state.failures.record_success(judge)
        self._holds.wake(_FETCHED)
        self._holds.wake(state.loaded)

    async def _handle_failure(self, task: RecordTask, state: _FrameState, error: Exception) -> FrameOutcome | None:
        """Wait for the next attempt and return None, or return the outcome of a frame that is not tried again."""
        self._count_failure(task, error)
        if is_transient(error):
            self._holds.hold(task.queue, task.pending, _FETCH, error_code(error), error_text(error))
            await self._holds.wait_for_retry(task.pending, state.backoff, _FETCHED)
            return None
        judge, loaded = self._judge_for(state), state.loaded
        history = state.failures.history_for(judge)
        verdict = judge.record_failure(history, error)
        if verdict is Verdict.DEAD or (verdict is Verdict.HOLD and state.is_job_model):
            return self.attempt.make_dead_letter(task.record, error, history.attempts, loaded.ref)
        if verdict is Verdict.HOLD:
            what = f"process frames with {loaded.ref.name} {loaded.ref.version}"
            self._holds.hold(task.queue, task.pending, what, error_code(error), judge.hold_reason(error))
        else:
            about = {"attempt": history.attempts}
            logger.warning("a frame failed and is tried again: %s", error_text(error), extra=about)
        await self._holds.wait_for_retry(task.pending, state.backoff, loaded if verdict is Verdict.HOLD else None)
        if task.pending.is_void:
            return None
        if not fails_by_type(error) and judge.needs_other_record(history):
            await self._try_proof_image(state, judge)
        return self._take_new_model(task, state) if verdict is Verdict.HOLD else None

    async def _try_proof_image(self, state: _FrameState, judge: Verdicts) -> None:
        """Try a known good image, in place of another record, in the same process as the frame of ``state``."""
        async with self._proof_lock:
            if not judge.needs_other_record(state.failures.history_for(judge)):
                return
            try:
                if judge is self._suspect_judge:
                    await self.attempt.quarantine.try_proof_image(state.loaded)
                else:
                    await state.loaded.pipeline.detect(PROOF_IMAGE, DetectOptions())
            except Exception as error:  # noqa: BLE001 (every error means that not only the frame fails)
                logger.debug("a known good image fails, too: %s", error_text(error))
                return
            judge.record_other_success()

    def _take_new_model(self, task: RecordTask, state: _FrameState) -> FrameOutcome | None:
        """Give a held frame to the model that would get it now; return an outcome when that makes it a duplicate."""
        former, loaded = state.loaded, self._roster.choose(state.frame)
        if loaded is former or isinstance(loaded, AskedModel):
            return None
        self._roster.acquire(loaded)
        self._roster.release(former)
        state.loaded = loaded
        event_key = detections_key(state.frame, loaded.model.card, live=is_live_record(task.record))
        if task.queue.claim_event(task.pending, event_key):
            return None
        return FrameOutcome(count=DUPLICATE_FRAMES.inc)

    def _judge_for(self, state: _FrameState) -> Verdicts:
        """Return the judge of the frame: there is one for each model, and one for all suspects."""
        loaded = state.loaded
        suspect = self.attempt.quarantine.is_suspect(detections_id(state.frame, loaded.model.card))
        return self._suspect_judge if suspect else self._judge_of(loaded)

    def _judge_of(self, loaded: LoadedModel) -> Verdicts:
        judge = self._judges.get(loaded)
        if judge is None:
            judge = self._judges[loaded] = Verdicts(self._context.policy)
        return judge

    def _count_failure(self, task: RecordTask, error: Exception) -> None:
        RECORDS_FAILED.labels(self._context.group, task.record.topic, error_code(error)).inc()
