"""The fastest way to run a model on this machine, found by measuring: short rounds in turn, the same tiles for all.

Every engine is first measured in its preferred way, once per precision; what is far behind is left out, what is not is
measured with other streams and batches too, and the contenders then take turns, so that noise hits all of them alike.
What counts is the time engines run: on a busy machine loading takes long, and must not take the turns' time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from detectors.engines.measuring.measurements import NO_TIME_LEFT, EngineMeasurements, WayMeasurement
from detectors.engines.port import Engine, Way
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs

logger = logging.getLogger(__name__)

CLEAR_WIN = 1.05
"""By how much a way must be faster than one that is preferred to it."""

# A way whose best round is this much slower than the best of all is not worth another, nor are its relatives.
_CONTENDS = 0.75
# While it had so few rounds that all of them may have met the same noise it may be this much slower.
_MAY_CONTEND = 0.4
_ROUND_S = 0.15
# Fewer turns than this may all have met the same noise, so they must show a larger win.
_TURNS_FOR_EARLY_WIN = 3
_MOST_TURNS = 0.75
_EARLY_WIN = 1.25
# So much of the time may go into trying ways; the rest is for the turns, which decide, however long trying took.
_TRYING = 0.6
# What decides (the preferred ways of all engines, and turns enough to trust) is worth this much more time than was
# allowed: of running, so that a very slow model comes to an end and a busy machine does not cut it short.
_TIMEOUT = 3.0


@dataclass(slots=True, eq=False)
class _Candidate:
    way: Way
    engine: Engine | None = None
    tried: float = 0.0
    turns: list[float] = field(default_factory=list)
    note: str = ""

    def leave(self, why: str) -> None:
        self.note = why
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def fail(self, error: Exception) -> None:
        """It is out, however fast it was."""
        logger.debug("%s cannot run the model", self.way, exc_info=error)
        self.tried, self.turns = 0.0, []
        self.leave(f"cannot run the model: {error}")

    @property
    def rate(self) -> float:
        """Tiles per second: of the turns, which all had under the same noise, else of the first round."""
        return median(self.turns) if self.turns else self.tried

    @property
    def best(self) -> float:
        """Noise only ever slows down, so the best round says what may be possible."""
        return max([self.tried, *self.turns])


class WayMeasurer:
    """Measures ways to run one model.

    load: an engine for a way; differs: why outputs for ``tiles`` (uint8 (N, H, W, 3) BGR) are too far from those of
    f32, or None; seconds: about how long it may take in all, where loading is quick; clock: in seconds.
    """

    def __init__(
        self,
        load: Callable[[Way], Engine],
        tiles: ImageArray,
        differs: Callable[[Outputs, Outputs], str | None],
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._load = load
        self._tiles = tiles
        self._differs = differs
        self._seconds = seconds
        self._clock = clock
        self._ran = 0.0
        self._exact: Outputs | None = None
        self._agreed: dict[tuple[str, str], str | None] = {}
        self._candidates: list[_Candidate] = []

    def measure(self, ways: Sequence[Way]) -> tuple[Engine, EngineMeasurements]:
        """The fastest of ``ways`` (the preferred first), loaded, and what was measured.

        Raises ModelLoadError when none of them can be loaded and run.
        """
        start = self._clock()
        self._candidates = [_Candidate(way) for way in ways]
        try:
            bases, others = self._sorted()
            self._measure_bases(bases)
            for one in others:
                self._try_relative(one, bases, start + self._seconds * _TRYING)
            self._measure_in_turns(start + self._seconds)
            best = self._best()
        except BaseException:
            for one in self._candidates:
                one.leave(one.note)
            raise
        engine, best.engine = best.engine, None
        for one in self._candidates:
            one.leave(one.note)
        assert engine is not None
        rows = tuple(WayMeasurement(one.way, one.rate or None, one.note) for one in self._candidates)
        return engine, EngineMeasurements(best.way, rows)

    def _sorted(self) -> tuple[list[_Candidate], list[_Candidate]]:
        """The first way of each engine and precision, and the rest."""
        first: dict[tuple[str, str], _Candidate] = {}
        for one in self._candidates:
            first.setdefault((one.way.engine, one.way.precision), one)
        bases = list(first.values())
        return bases, [one for one in self._candidates if one not in bases]

    def _measure_bases(self, bases: Iterable[_Candidate]) -> None:
        """Measure the first way of each engine and precision, however long they take to be loaded."""
        waiting = list(bases)
        while waiting:
            # In the order of preference, but without answers in f32 the others have nothing to be compared with.
            one = next((one for one in waiting if self._exact is not None or one.way.precision == "f32"), waiting[0])
            waiting.remove(one)
            if self._ran > self._seconds * _TIMEOUT:
                one.leave(NO_TIME_LEFT)
            else:
                self._try(one)

    def _try_relative(self, one: _Candidate, bases: Iterable[_Candidate], until: float) -> None:
        """Measure ``one`` unless its engine and precision were far behind, or it is later than ``until``."""
        kin = next(
            base for base in bases if (base.way.engine, base.way.precision) == (one.way.engine, one.way.precision)
        )
        if kin.engine is None:
            one.leave(kin.note if kin.note == NO_TIME_LEFT else f"not measured: {kin.note}")
        elif kin.best < _CONTENDS * self._best_rate():
            one.leave(f"not measured, {kin.way} is far behind")
        elif self._clock() > until:
            one.leave(NO_TIME_LEFT)
        else:
            self._try(one)

    def _try(self, one: _Candidate) -> None:
        """Load ``one``, compare its answers and measure a first round."""
        try:
            one.engine = self._load(one.way)
            with self._running():
                why_not = self._differs_from_f32(one.way, one.engine)
                if why_not is not None:
                    one.leave(f"not used: {why_not}")
                    return
                one.tried = self._round(one.engine)
        except (ModelLoadError, InferenceError) as error:
            one.fail(error)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """What happens inside counts as time engines ran."""
        start = self._clock()
        try:
            yield
        finally:
            self._ran += self._clock() - start

    def _differs_from_f32(self, way: Way, engine: Engine) -> str | None:
        """Why the answers of ``engine`` cannot be taken for those of f32; looked at once per engine and precision."""
        key = (way.engine, way.precision)
        if key not in self._agreed:
            outputs = engine.run(self._tiles)
            if way.precision == "f32" and self._exact is None:
                self._exact = outputs
            self._agreed[key] = None if self._exact is None else self._differs(self._exact, outputs)
        return self._agreed[key]

    def _measure_in_turns(self, until: float) -> None:
        """Measure all contenders in turn until it is later than ``until``, each as often as the others.

        Turns have their share of the time, and are enough to be trusted, also when that is over before they begin.
        """
        begun = self._ran
        while len(contenders := self._still_in_race()) > 1:
            trusted = min(len(one.turns) for one in contenders) >= _TURNS_FOR_EARLY_WIN
            shared = self._ran - begun >= (1 - _TRYING) * self._seconds
            late = self._clock() + len(contenders) * _ROUND_S > until
            if (late and shared and trusted) or self._ran > self._seconds * _TIMEOUT:
                return
            for one in contenders:
                assert one.engine is not None
                try:
                    with self._running():
                        one.turns.append(self._round(one.engine))
                except InferenceError as error:
                    one.fail(error)

    def _still_in_race(self) -> list[_Candidate]:
        """Those that may be the fastest; the others' memory is given back."""
        running = [one for one in self._candidates if one.engine is not None]
        for one in running:
            share = _CONTENDS if len(one.turns) >= _TURNS_FOR_EARLY_WIN else _MAY_CONTEND
            if one.best < share * self._best_rate():
                one.leave(one.note)
        return [one for one in running if one.engine is not None]

    def _best_rate(self) -> float:
        """The best round of all."""
        return max(one.best for one in self._candidates)

    def _round(self, engine: Engine) -> float:
        """Tiles per second of ``engine`` with as many callers as it wants, after a run of each that warms up."""
        batch = self._tiles[np.arange(engine.batch_size) % len(self._tiles)]

        def call(_: int) -> tuple[float, float, int]:
            start, runs = self._clock(), 0
            while runs == 0 or self._clock() - start < _ROUND_S:
                engine.run(batch)
                runs += 1
            return start, self._clock(), runs

        with ThreadPoolExecutor(engine.parallel, thread_name_prefix="measure") as callers:
            list(callers.map(engine.run, [batch] * engine.parallel))
            spans = list(callers.map(call, range(engine.parallel)))
        seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
        return sum(runs for _, _, runs in spans) * len(batch) / seconds

    def _best(self) -> _Candidate:
        """The preferred one, unless another is clearly faster than it."""
        contenders = self._still_in_race()
        if not contenders:
            raise ModelLoadError("; ".join(f"{one.way}: {one.note}" for one in self._candidates))
        best = contenders[0]
        for one in contenders[1:]:
            if min(len(one.turns), len(best.turns)) >= _TURNS_FOR_EARLY_WIN:
                wins = clearly_faster(one.turns, best.turns)
            else:
                wins = one.rate > _EARLY_WIN * best.rate
            best = one if wins else best
        return best


def clearly_faster(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether what had the rates ``ours`` beat what had ``theirs``, rate by rate in the order they were measured.

    By enough in the middle, and in most turns: what the machine did beside it hit both sides of a turn alike.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return median(ratios) > CLEAR_WIN and sum(ratio > 1 for ratio in ratios) >= _MOST_TURNS * len(ratios)
