"""Applies rules to the detections of a frame, in threads of their own, and chooses which rules a frame gets."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from detectors.metrics import RULES_DURATION, RULES_PROBLEMS, RULINGS
from detectors.model.predict import Model
from detectors.rules.engines.port import RulesEngine, RulesLimits
from detectors.rules.evaluator import RulesEvaluator
from detectors.rules.facts import FrameFacts
from detectors.rules.rules_file import RulesError, RulesFile, parse_rules, text_digest
from detectors.rules.rulings import Rulings
from detectors.worker.pipeline.pipeline import FrameResult
from detectors.worker.pipeline.ranked_queue import Rank
from detectors.worker.pipeline.threads import DaemonPool
from infra.failure.error_texts import error_text
from schemas.event_base import ModelRef
from schemas.events import FrameCaptured
from schemas.job_events import JobRules

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_CLOSE_S = 2.0
_MOST_READ = 32


class RulesSource(Protocol):
    """Says which rules the detections of a frame get."""

    def rules_of(self, frame: FrameCaptured, model: Model) -> RulesFile | JobRules | None:
        """Return the rules for the detections that ``model`` makes of ``frame``; None for none. It does not wait."""
        ...

    def usual_rules(self, model: Model) -> RulesFile | None:
        """Return the rules that most frames of ``model`` get; None for none."""
        ...


@dataclass(frozen=True, slots=True)
class UsualRules:
    """Gives a frame the rules of its job; without them those of the operator, else those that the model brings."""

    of_operator: RulesFile | None = None
    use_model_rules: bool = True

    def rules_of(self, frame: FrameCaptured, model: Model) -> RulesFile | JobRules | None:
        """See :class:`RulesSource`."""
        if not frame.use_rules:
            return None
        return self.usual_rules(model) if frame.rules is None else frame.rules

    def usual_rules(self, model: Model) -> RulesFile | None:
        """See :class:`RulesSource`."""
        if self.of_operator is not None:
            return self.of_operator
        return model.rules if self.use_model_rules else None


@dataclass(frozen=True, slots=True)
class RulesParts:
    """Defines what a worker needs to apply rules."""

    source: RulesSource
    open_engine: Callable[[], RulesEngine]
    """Called when the first rules are needed, in a thread. Raises SettingsError or RulesEngineError."""
    limits: RulesLimits


@dataclass(frozen=True, slots=True)
class FrameRulings:
    """Names the rules that a frame got, and holds their rulings."""

    name: str
    digest: str
    """SHA-256 of the rules, hexadecimal."""
    rulings: Rulings
    labels: tuple[str, ...] = ()
    """What the rules may call a detection, in the order of the file."""


class FrameRules:
    """Evaluates rules beside the event loop; live frames never wait for those of jobs and of the backfill."""

    def __init__(self, parts: RulesParts | None) -> None:
        """``parts``: None applies no rules."""
        self._parts = parts
        self._engine: RulesEngine | None = None
        self._lock = threading.Lock()
        self._threads: dict[Rank, tuple[DaemonPool, _RulesWork]] = {}

    async def prepare(self, model: Model) -> None:
        """Start the engine, which takes seconds, before the first frame needs it, where ``model`` has rules."""
        if self._parts is not None and self._parts.source.usual_rules(model) is not None:
            pool, _ = self._thread(Rank.LIVE)
            await _run_in(pool, self._warm_up)

    def _warm_up(self) -> None:
        try:
            self._shared_engine()
        except Exception as error:  # noqa: BLE001 (each frame with rules says why they gave no rulings)
            logger.warning("rules will give no rulings: %s", error_text(error))

    async def rulings(self, frame: FrameCaptured, model: Model, result: FrameResult, rank: Rank) -> FrameRulings | None:
        """Return the rulings about what ``model`` found in ``frame``; None where the frame gets no rules."""
        rules = None if self._parts is None else self._parts.source.rules_of(frame, model)
        if rules is None:
            return None
        pool, work = self._thread(rank)
        made = await _run_in(pool, partial(work.evaluate, rules, facts_of(frame, model, result), result, model))
        _count(made.rulings, model.card.name)
        return made

    def _thread(self, rank: Rank) -> tuple[DaemonPool, _RulesWork]:
        found = self._threads.get(rank)
        if found is None:
            assert self._parts is not None
            work = _RulesWork(RulesEvaluator(self._shared_engine, self._parts.limits))
            found = self._threads[rank] = (DaemonPool(1, f"rules-{rank.name.lower()}"), work)
        return found

    def _shared_engine(self) -> RulesEngine:
        assert self._parts is not None
        with self._lock:
            if self._engine is None:
                self._engine = self._parts.open_engine()
            return self._engine

    async def close(self) -> None:
        """End the threads and what they hold; no frame may be in progress."""
        for pool, work in self._threads.values():
            pool.submit(work.evaluator.close_programs)
            await asyncio.to_thread(pool.close, _CLOSE_S)
        self._threads.clear()
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def facts_of(frame: FrameCaptured, model: Model, result: FrameResult) -> FrameFacts:
    """Return what rules may know about ``frame``."""
    return FrameFacts(
        width=result.view.width,
        height=result.view.height,
        model=ModelRef(name=model.card.name, version=model.card.version),
        gsd_m=result.view.gsd_m,
        captured_at=frame.captured_at,
        camera=frame.camera,
        device=frame.device_id,
        flight=frame.flight_id,
        video=frame.video,
        metadata=frame.metadata,
    )


class _RulesWork:
    """Reads the rules of jobs and evaluates rules; used from one thread."""

    def __init__(self, evaluator: RulesEvaluator) -> None:
        self.evaluator = evaluator
        self._read: OrderedDict[str, RulesFile | RulesError] = OrderedDict()

    def evaluate(
        self, rules: RulesFile | JobRules, facts: FrameFacts, result: FrameResult, model: Model
    ) -> FrameRulings:
        """Return the rulings about the detections in ``result``; whatever goes wrong is their problem."""
        name, digest = rules.name, rules.digest if isinstance(rules, RulesFile) else text_digest(rules.text)
        try:
            usable = rules if isinstance(rules, RulesFile) else self._read_job(rules, digest)
            if isinstance(usable, RulesError):
                return FrameRulings(name, digest, Rulings(problem=error_text(usable)))
            labels = [one.name for one in model.card.classes]
            rulings = self.evaluator.evaluate(usable, facts, result.detections, labels)
            return FrameRulings(name, digest, rulings, usable.program.labels)
        except Exception as error:
            # Rules never cost a frame its detections.
            logger.exception("rules failed", extra={"rules": name})
            return FrameRulings(name, digest, Rulings(problem=f"rules file {name}: {error_text(error)}"))

    def _read_job(self, rules: JobRules, digest: str) -> RulesFile | RulesError:
        """Return the rules of a job, or their errors: all frames of a job have the same rules, which are read once."""
        found = self._read.get(digest)
        if found is None:
            try:
                found = parse_rules(rules.text.encode(), rules.name)
            except RulesError as error:
                found = error
            self._read[digest] = found
            while len(self._read) > _MOST_READ:
                self._read.popitem(last=False)
        self._read.move_to_end(digest)
        return found


async def _run_in(pool: DaemonPool, work: Callable[[], ResultT]) -> ResultT:
    done: Future[ResultT] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 (the caller gets it)
            done.set_exception(error)

    pool.submit(run)
    return await asyncio.wrap_future(done)


def _count(rulings: Rulings, model: str) -> None:
    RULES_DURATION.observe(rulings.elapsed_ms / 1_000)
    if rulings.problem is not None:
        RULES_PROBLEMS.labels(model).inc()
    for ruling in rulings.by_number.values():
        RULINGS.labels(ruling.kind).inc()
