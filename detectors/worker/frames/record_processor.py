"""Brings each entry to its end: tries a frame until it is answered or found dead, and holds its lane meanwhile.

What fails by itself becomes a dead letter; what may be the fault of the model, the machine or the store is held and
tried again for as long as it takes (:mod:`infra.failure.verdicts` decides). A model on which nothing passes is given a
known good picture: whether that passes tells if the frames are at fault or the model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from detectors.metrics import DUPLICATE_FRAMES
from detectors.worker.frames.classify import Wanted
from detectors.worker.frames.detections_event import answer_for, answer_key
from detectors.worker.frames.frame_attempt import Answerer
from detectors.worker.frames.lateness import is_live
from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.holds import Holding, Sign
from detectors.worker.partitions.partition_queue import Entry, Lane, Outcome
from detectors.worker.pipeline.memory_budget import Memory
from detectors.worker.pipeline.serving import Roster, Served
from detectors.worker.quarantine.proof_image import PROOF
from infra.broker.port import InRecord
from infra.failure.error_texts import error_code, error_text, is_transient
from infra.failure.metrics import RECORDS_FAILED
from infra.failure.retry import Backoff, ConsumerContext, StoppedError
from infra.failure.verdicts import FailureHistory, Verdict, Verdicts, fails_by_type, history_of
from infra.telemetry.logs import bind
from infra.telemetry.tracing import consumer_span
from schemas.errors import EventVersionError
from schemas.events import DetectOptions, FrameCaptured

logger = logging.getLogger(__name__)

_FETCH = "fetch frame"
_FETCHED = Sign()
_READ = "read frame"
_DEAD_LETTERS = "dead-letter records"


@dataclass(frozen=True, slots=True)
class Case:
    """An entry under way, its lane, and the record it stands for."""

    lane: Lane
    entry: Entry
    record: InRecord


class _Troubles:
    """The failures of one record, of which only its present judge knows; another one begins anew."""

    def __init__(self, record: InRecord) -> None:
        self._record = record
        self._judge: Verdicts | None = None
        self._trouble: FailureHistory | None = None

    def known_to(self, judge: Verdicts) -> FailureHistory:
        """What ``judge`` knows."""
        if self._judge is not judge or self._trouble is None:
            self.end()
            self._judge, self._trouble = judge, history_of(self._record)
        return self._trouble

    def passed(self, judge: Verdicts) -> None:
        """The record passed, maybe after failures."""
        if self._judge is not judge:
            self.end()
            self._trouble = None
        judge.record_success(self._trouble)
        self._trouble = None

    def end(self) -> None:
        """The record is judged no more: dead, another worker's, or another model's."""
        if self._judge is not None and self._trouble is not None:
            self._judge.forget_record(self._trouble)


@dataclass(slots=True)
class _Trial:
    """A frame, the model that was taken for it, and what is known of its failures there."""

    frame: FrameCaptured
    served: Served
    backoff: Backoff
    troubles: _Troubles


class Settler:
    """Settles what the flow has accepted; every way ends in ``Flow.settle``, or leaves the entry to the next worker."""

    def __init__(self, flow: Flow, work: ConsumerContext, answerer: Answerer, roster: Roster, max_bytes: int) -> None:
        """``max_bytes``: of the memory that all tries under way may take together."""
        self._flow = flow
        self._work = work
        self.answerer = answerer
        self._roster = roster
        self._memory = Memory(max_bytes)
        self._holding = Holding(flow, work)
        self._judges: WeakKeyDictionary[Served, Verdicts] = WeakKeyDictionary()
        self._judge_apart = Verdicts(work.policy)
        self._proving = asyncio.Lock()

    async def answer(self, case: Case, wanted: Wanted) -> None:
        """Answer the frame of ``case``, whose model was taken for it and is given back here."""
        trial = _Trial(wanted.frame, wanted.served, Backoff(self._work.policy), _Troubles(case.record))
        names = {"device_id": trial.frame.device_id, "frame_id": str(trial.frame.frame_id)}
        try:
            with bind(**names), consumer_span(case.record, group=self._work.group):
                outcome = await self._tried(case, trial)
        except StoppedError as stopped:
            logger.info("left to the next worker: %s", stopped, extra=names)
            return
        finally:
            self._roster.release(trial.served)
            trial.troubles.end()
            self._holding.end(case.lane, case.entry)
        if outcome is not None:
            self._flow.settle(case.lane, case.entry, outcome)

    async def refuse(self, case: Case, error: Exception) -> None:
        """Make a dead letter of ``case``, whose record holds no frame; held while too many others became one."""
        troubles = _Troubles(case.record)

        def outcome() -> Outcome | str:
            self._count_failure(case, error)
            # Its share is one of all records, and most are frames of the stable model.
            judge = self._judge_of(self._roster.stable)
            if judge.record_failure(troubles.known_to(judge), error) is Verdict.DEAD:
                return self.answerer.refuse(case.record, error, 1, self._roster.stable.ref.name)
            return judge.hold_reason(error)

        try:
            await self._until(case, _DEAD_LETTERS, error, outcome)
        finally:
            troubles.end()

    async def wait_for_update(self, case: Case, error: EventVersionError) -> None:
        """Hold ``case``, which only a newer program can read, until it goes to another worker or the process stops."""
        await self._until(case, _READ, error, lambda: error_text(error))

    async def _until(self, case: Case, what: str, error: Exception, outcome: Callable[[], Outcome | str]) -> None:
        """Hold ``case`` for the reason that ``outcome`` gives, until that gives an outcome instead."""
        backoff = Backoff(self._work.policy)
        try:
            while not case.entry.void:
                found = outcome()
                if isinstance(found, Outcome):
                    self._flow.settle(case.lane, case.entry, found)
                    return
                self._holding.hold(case.lane, case.entry, what, error_code(error), found)
                await self._holding.pause(case.entry, backoff)
        except StoppedError as stopped:
            logger.info("left to the next worker: %s", stopped)
        finally:
            self._holding.end(case.lane, case.entry)

    async def _tried(self, case: Case, trial: _Trial) -> Outcome | None:
        """Try until there is an outcome; None when the frame became another worker's."""
        image = trial.frame.image
        # Encoded bytes and decoded pixels, three bytes each, are what a frame costs while it is tried.
        needed_bytes = image.size_bytes + 3 * image.width * image.height
        while not case.entry.void:
            await self._memory.take(needed_bytes)
            error: Exception
            try:
                # Chosen before the frame is tried: a suspect that passes apart is none any more.
                judge = self._judge_for(trial)
                outcome = await self.answerer.answer(case.record, trial.frame, trial.served)
            except Exception as failure:  # noqa: BLE001 (whatever it is, no frame may be lost by it)
                error = failure
            else:
                self._passed(trial, judge)
                return outcome
            finally:
                self._memory.give(needed_bytes)
            found = await self._failed(case, trial, error)
            if found is not None:
                return found
        return None

    def _passed(self, trial: _Trial, judge: Verdicts) -> None:
        trial.troubles.passed(judge)
        self._holding.passed(_FETCHED)
        self._holding.passed(trial.served)

    async def _failed(self, case: Case, trial: _Trial, error: Exception) -> Outcome | None:
        """Wait for the next try, or give the outcome of a frame that is not tried again."""
        self._count_failure(case, error)
        if is_transient(error):
            self._holding.hold(case.lane, case.entry, _FETCH, error_code(error), error_text(error))
            await self._holding.pause(case.entry, trial.backoff, _FETCHED)
            return None
        judge, served = self._judge_for(trial), trial.served
        trouble = trial.troubles.known_to(judge)
        verdict = judge.record_failure(trouble, error)
        if verdict is Verdict.DEAD:
            return self.answerer.refuse(case.record, error, trouble.attempts, served.ref.name)
        if verdict is Verdict.HOLD:
            what = f"answer frames with {served.ref.name} {served.ref.version}"
            self._holding.hold(case.lane, case.entry, what, error_code(error), judge.hold_reason(error))
        else:
            logger.warning(
                "could not answer a frame, trying again: %s", error_text(error), extra={"attempt": trouble.attempts}
            )
        await self._holding.pause(case.entry, trial.backoff, served if verdict is Verdict.HOLD else None)
        if case.entry.void:
            return None
        if not fails_by_type(error) and judge.needs_other_record(trouble):
            await self._prove(trial, judge)
        return self._reassigned(case, trial) if verdict is Verdict.HOLD else None

    async def _prove(self, trial: _Trial, judge: Verdicts) -> None:
        """Try a known good picture in the place of a neighbour, where the frame of ``trial`` is tried."""
        async with self._proving:
            if not judge.needs_other_record(trial.troubles.known_to(judge)):
                return
            try:
                if judge is self._judge_apart:
                    await self.answerer.guard.prove_apart(trial.served)
                else:
                    await trial.served.pipeline.detect(PROOF, DetectOptions())
            except Exception as error:  # noqa: BLE001 (whatever it is, it says that not only the frame fails)
                logger.debug("a known good picture fails, too: %s", error_text(error))
                return
            judge.record_other_success()

    def _reassigned(self, case: Case, trial: _Trial) -> Outcome | None:
        """Give a held frame to the model that would get it now, if another was rolled out meanwhile."""
        former, served = trial.served, self._roster.pick(trial.frame)
        if served is former:
            return None
        self._roster.take(served)
        self._roster.release(former)
        trial.served = served
        answer = answer_key(trial.frame, served.model.card, live=is_live(case.record))
        if case.lane.answers(case.entry, answer):
            return None
        return Outcome(count=DUPLICATE_FRAMES.inc)

    def _judge_for(self, trial: _Trial) -> Verdicts:
        """One judge for each model, and one for all that is tried apart."""
        served = trial.served
        suspect = self.answerer.guard.suspects_frame(answer_for(trial.frame, served.model.card))
        return self._judge_apart if suspect else self._judge_of(served)

    def _judge_of(self, served: Served) -> Verdicts:
        judge = self._judges.get(served)
        if judge is None:
            judge = self._judges[served] = Verdicts(self._work.policy)
        return judge

    def _count_failure(self, case: Case, error: Exception) -> None:
        RECORDS_FAILED.labels(self._work.group, case.record.topic, error_code(error)).inc()
