"""Evaluates rules on frames: loads each file once, bounds the time, and says in which line a rule went wrong."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from detectors.geometry.arrays import Detections
from detectors.rules.engines.port import RulesEngine, RulesEngineError, RulesLimits, RulesProgram, RulesStoppedError
from detectors.rules.facts import FrameFacts, write_frame
from detectors.rules.rules_file import RulesFile
from detectors.rules.rulings import PrologError, Ruling, Rulings, last_tried, read_rulings
from infra.errors import SettingsError
from infra.failure.error_texts import error_text

logger = logging.getLogger(__name__)

MOST_DETECTIONS = 2_000
"""A frame with more is not given to rules: they would need longer than they have."""
_MOST_PROGRAMS = 8
_STOPS_UNTIL_PAUSE = 3
_PAUSE_S = 60.0


@dataclass(slots=True)
class _Loaded:
    """Holds a program, and how it went lately."""

    program: RulesProgram
    stops: int = 0
    """How often it was stopped, since it last was not."""
    paused_until: float = 0.0
    problem: str = ""


@dataclass(slots=True)
class RulesEvaluator:
    """Evaluates rules on one frame at a time, and keeps the programs that were used last. Use it from one thread."""

    open_engine: Callable[[], RulesEngine]
    """Called when rules are first needed. Raises SettingsError or RulesEngineError."""
    limits: RulesLimits = field(default_factory=RulesLimits)
    now: Callable[[], float] = time.monotonic
    _engine: RulesEngine | None = None
    _loaded: OrderedDict[str, _Loaded] = field(default_factory=OrderedDict)

    def evaluate(self, rules: RulesFile, frame: FrameFacts, detections: Detections, labels: Sequence[str]) -> Rulings:
        """Return the rulings of ``rules`` about ``detections``; whatever goes wrong is their problem, no exception."""
        start = time.perf_counter()
        found: dict[int, Ruling] = {}
        problem: str | None = None
        try:
            if len(detections) > MOST_DETECTIONS:
                problem = f"the frame has {len(detections):,} detections, and rules take at most {MOST_DETECTIONS:,}"
            else:
                loaded = self._load(rules)
                # Starting an engine is no part of a frame's time.
                start = time.perf_counter()
                found, problem = self._evaluated(rules, loaded, frame, detections, labels)
        except (SettingsError, RulesEngineError) as error:
            problem = error_text(error)
            self._forget(rules)
        name = "" if self._engine is None else self._engine.name
        return Rulings(found, problem, name, (time.perf_counter() - start) * 1_000)

    def _evaluated(
        self, rules: RulesFile, loaded: _Loaded, frame: FrameFacts, detections: Detections, labels: Sequence[str]
    ) -> tuple[dict[int, Ruling], str | None]:
        if self.now() < loaded.paused_until:
            return {}, loaded.problem
        try:
            output = loaded.program.run(write_frame(frame, detections, labels))
            found = read_rulings(output, rules.program, len(detections), labels)
        except (RulesStoppedError, PrologError) as error:
            traced = write_frame(frame, detections, labels, traced=True)
            return {}, self._explained(rules, loaded, error, traced)
        loaded.stops = 0
        return found, None

    def _explained(self, rules: RulesFile, loaded: _Loaded, error: RulesStoppedError | PrologError, traced: str) -> str:
        """Return what went wrong, with the rule that was tried; one that is stopped again and again gets a pause."""
        where = f"rules file {rules.name}{self._place(rules, loaded, traced)}"
        if isinstance(error, PrologError):
            return f"{where}: {_prolog_text(str(error))}"
        loaded.stops += 1
        problem = f"{where}: the rules were stopped, because {error}"
        if loaded.stops < _STOPS_UNTIL_PAUSE:
            return problem
        loaded.stops = 0
        loaded.paused_until = self.now() + _PAUSE_S
        loaded.problem = f"{problem}; that was {_STOPS_UNTIL_PAUSE} times in a row, so they pause for {_PAUSE_S:g} s"
        logger.warning("rules pause", extra={"rules": rules.name, "digest": rules.digest, "problem": problem})
        return loaded.problem

    def _place(self, rules: RulesFile, loaded: _Loaded, traced: str) -> str:
        """Run the program again, traced, and return the line of the rule at which it ends this time as well."""
        try:
            output = loaded.program.run(traced)
        except RulesStoppedError as error:
            output = error.output
        except RulesEngineError as error:
            logger.warning("the line of a rule could not be found: %s", error)
            return ""
        tried = last_tried(output, rules.program.rules)
        return "" if tried is None else f", line {tried[0].place.line}, rule {tried[0].name}"

    def _load(self, rules: RulesFile) -> _Loaded:
        loaded = self._loaded.get(rules.digest)
        if loaded is None:
            if self._engine is None:
                self._engine = self.open_engine()
            loaded = _Loaded(self._engine.load(rules.program.text, self.limits))
            self._loaded[rules.digest] = loaded
            while len(self._loaded) > _MOST_PROGRAMS:
                self._loaded.popitem(last=False)[1].program.close()
        self._loaded.move_to_end(rules.digest)
        return loaded

    def _forget(self, rules: RulesFile) -> None:
        loaded = self._loaded.pop(rules.digest, None)
        if loaded is not None:
            loaded.program.close()

    def close_programs(self) -> None:
        """Release all programs; the engine stays."""
        while self._loaded:
            self._loaded.popitem()[1].program.close()

    def close(self) -> None:
        """Release all programs and the engine."""
        self.close_programs()
        if self._engine is not None:
            self._engine.close()
            self._engine = None


_MEANINGS = {
    "evaluation_error(zero_divisor)": "a number is divided by zero",
    "instantiation_error": "a variable has no value yet where one is needed",
    "no_label(": "a variable in relabel has a value that is no label of the model, nor one that a rule names",
    "no_ruling(": "the ruling is a variable without a value",
    "evaluable": "arithmetic needs numbers",
}


def _prolog_text(term: str) -> str:
    """Return an error of Prolog for people, with its term."""
    meaning = next((text for part, text in _MEANINGS.items() if part in term), "a condition failed with an error")
    return f"{meaning} ({term[:200]})"
