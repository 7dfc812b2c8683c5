"""Measures which way runs a model fastest on this machine, in short rounds with the same tiles for all ways.

Every engine is first measured in its preferred way, once per precision. Ways that are much slower are left out; the
others are also measured with other streams and batches. The remaining ways are then measured in turns, so that other
load on the machine affects all of them equally. Only the time in which engines run counts: on a busy machine loading
takes long, and must not shorten the turns.
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
"""How much faster a way must be than one that precedes it in the order of preference."""

# A way whose best round is slower than this share of the best of all gets no further round, nor do its relatives.
_STAYS = 0.75
# The share while there are so few rounds that other load may have slowed all of them.
_STAYS_EARLY = 0.4
_ROUND_S = 0.15
# Other load may have slowed all of fewer turns, so these must show a larger win.
_TURNS_FOR_EARLY_WIN = 3
_MOST_TURNS = 0.75
_EARLY_WIN = 1.25
# The share of the time for first rounds; the rest is for the turns, which decide.
_FIRST_ROUNDS = 0.6
# The preferred ways of all engines, and enough turns to trust, may take this many times the allowed time. Only running
# counts, so that measuring a very slow model ends, and a busy machine does not shorten it.
_TIMEOUT = 3.0


@dataclass(slots=True, eq=False)
class _MeasuredWay:
    way: Way
    engine: Engine | None = None
    first_rate: float = 0.0
    turns: list[float] = field(default_factory=list)
    note: str = ""

    def drop(self, why: str) -> None:
        self.note = why
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def fail(self, error: Exception) -> None:
        """Leave it out, however fast it was."""
        logger.debug("%s cannot run the model", self.way, exc_info=error)
        self.first_rate, self.turns = 0.0, []
        self.drop(f"cannot run the model: {error}")

    @property
    def rate(self) -> float:
        """Tiles per second: the median of the turns, which are comparable, else of the first round."""
        return median(self.turns) if self.turns else self.first_rate

    @property
    def best(self) -> float:
        """Tiles per second of the best round: other load only slows down, so this is what may be possible."""
        return max([self.first_rate, *self.turns])


class WayMeasurer:
    """Measures ways to run one model."""

    def __init__(
        self,
        load: Callable[[Way], Engine],
        tiles: ImageArray,
        differs: Callable[[Outputs, Outputs], str | None],
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
        unmeasured: Callable[[Outputs], str | None] = lambda _: None,
    ) -> None:
        """``load``: loads an engine for a way; ``tiles``: uint8 (N, H, W, 3) BGR; ``clock``: in seconds.

        ``differs``: says why outputs for ``tiles`` are too far from those in f32, or None; ``seconds``: about how long
        measuring may take in all, where loading is quick; ``unmeasured``: says why outputs in f32 have too little to
        compare a lower precision with, or None.
        """
        self._load = load
        self._tiles = tiles
        self._differs = differs
        self._unmeasured = unmeasured
        self._seconds = seconds
        self._clock = clock
        self._ran = 0.0
        self._exact: Outputs | None = None
        self._agreed: dict[tuple[str, str], str | None] = {}
        self._ways: list[_MeasuredWay] = []

    def measure(self, ways: Sequence[Way]) -> tuple[Engine, EngineMeasurements]:
        """Measure ``ways`` (the preferred first); return the fastest one, loaded, and all measurements.

        Raises ModelLoadError when none of them can be loaded and run.
        """
        start = self._clock()
        self._ways = [_MeasuredWay(way) for way in ways]
        try:
            bases, others = self._bases_and_others()
            self._measure_bases(bases)
            for one in others:
                self._measure_relative(one, bases, start + self._seconds * _FIRST_ROUNDS)
            self._measure_in_turns(start + self._seconds)
            best = self._best()
        except BaseException:
            for one in self._ways:
                one.drop(one.note)
            raise
        engine, best.engine = best.engine, None
        for one in self._ways:
            one.drop(one.note)
        assert engine is not None
        rows = tuple(WayMeasurement(one.way, one.rate or None, one.note) for one in self._ways)
        return engine, EngineMeasurements(best.way, rows)

    def _bases_and_others(self) -> tuple[list[_MeasuredWay], list[_MeasuredWay]]:
        """Return the first way of each engine and precision, and the rest."""
        first: dict[tuple[str, str], _MeasuredWay] = {}
        for one in self._ways:
            first.setdefault((one.way.engine, one.way.precision), one)
        bases = list(first.values())
        return bases, [one for one in self._ways if one not in bases]

    def _measure_bases(self, bases: Iterable[_MeasuredWay]) -> None:
        """Measure the first way of each engine and precision, however long loading takes."""
        waiting = list(bases)
        while waiting:
            # In the order of preference, but f32 first: the outputs of the others are compared with it.
            one = next((one for one in waiting if self._exact is not None or one.way.precision == "f32"), waiting[0])
            waiting.remove(one)
            if self._ran > self._seconds * _TIMEOUT:
                one.drop(NO_TIME_LEFT)
            else:
                self._measure_first(one)

    def _measure_relative(self, one: _MeasuredWay, bases: Iterable[_MeasuredWay], until: float) -> None:
        """Measure ``one`` unless its engine and precision were much slower, or it is later than ``until``."""
        kin = next(
            base for base in bases if (base.way.engine, base.way.precision) == (one.way.engine, one.way.precision)
        )
        if kin.engine is None:
            one.drop(kin.note if kin.note == NO_TIME_LEFT else f"not measured: {kin.note}")
        elif kin.best < _STAYS * self._best_rate():
            one.drop(f"not measured, {kin.way} was slower in the first round")
        elif self._clock() > until:
            one.drop(NO_TIME_LEFT)
        else:
            self._measure_first(one)

    def _measure_first(self, one: _MeasuredWay) -> None:
        """Load ``one``, compare its outputs and measure a first round."""
        try:
            one.engine = self._load(one.way)
            with self._running():
                why_not = self._differs_from_f32(one.way, one.engine)
                rate = self._round(one.engine)
                if why_not is not None:
                    one.drop(f"not used{self._given_up(rate)}: {why_not}")
                    return
                one.first_rate = rate
        except (ModelLoadError, InferenceError) as error:
            one.fail(error)

    def _given_up(self, rate: float) -> str:
        """Return text about the speed that is given up when a way with ``rate`` is not used; empty for none."""
        exact = max((each.first_rate for each in self._ways if each.way.precision == "f32"), default=0.0)
        faster = rate > CLEAR_WIN * exact > 0
        return f", though it computes {rate / exact:.1f} times as many tiles as f32" if faster else ""

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Count the time inside as time in which engines ran."""
        start = self._clock()
        try:
            yield
        finally:
            self._ran += self._clock() - start

    def _differs_from_f32(self, way: Way, engine: Engine) -> str | None:
        """Return why the outputs of ``engine`` are too far from f32; compared once per engine and precision."""
        key = (way.engine, way.precision)
        if key not in self._agreed:
            outputs = engine.run(self._tiles)
            if way.precision == "f32" and self._exact is None:
                self._exact = outputs
            against = None if self._exact is None else self._differs(self._exact, outputs)
            if against is None and self._exact is not None and way.precision != "f32":
                against = self._unmeasured(self._exact)
            self._agreed[key] = against
        return self._agreed[key]

    def _measure_in_turns(self, until: float) -> None:
        """Measure all remaining ways in turns until it is later than ``until``, each as often as the others.

        Turns get their share of the time, and there are enough to trust, also when ``until`` is over before they begin.
        """
        begun = self._ran
        while len(remaining := self._still_in_race()) > 1:
            trusted = min(len(one.turns) for one in remaining) >= _TURNS_FOR_EARLY_WIN
            shared = self._ran - begun >= (1 - _FIRST_ROUNDS) * self._seconds
            late = self._clock() + len(remaining) * _ROUND_S > until
            if (late and shared and trusted) or self._ran > self._seconds * _TIMEOUT:
                return
            for one in remaining:
                assert one.engine is not None
                try:
                    with self._running():
                        one.turns.append(self._round(one.engine))
                except InferenceError as error:
                    one.fail(error)

    def _still_in_race(self) -> list[_MeasuredWay]:
        """Return the ways that may be the fastest; close the engines of the others."""
        running = [one for one in self._ways if one.engine is not None]
        for one in running:
            share = _STAYS if len(one.turns) >= _TURNS_FOR_EARLY_WIN else _STAYS_EARLY
            if one.best < share * self._best_rate():
                one.drop(one.note)
        return [one for one in running if one.engine is not None]

    def _best_rate(self) -> float:
        """Return the rate of the best round of all."""
        return max(one.best for one in self._ways)

    def _round(self, engine: Engine) -> float:
        """Return tiles per second of ``engine`` with as many callers as it wants, after one warm-up run of each."""
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

    def _best(self) -> _MeasuredWay:
        """Return the preferred way, unless another one is clearly faster."""
        remaining = self._still_in_race()
        if not remaining:
            raise ModelLoadError("; ".join(f"{one.way}: {one.note}" for one in self._ways))
        best = remaining[0]
        for one in remaining[1:]:
            if min(len(one.turns), len(best.turns)) >= _TURNS_FOR_EARLY_WIN:
                wins = clearly_faster(one.turns, best.turns)
            else:
                wins = one.rate > _EARLY_WIN * best.rate
            best = one if wins else best
        return best


def clearly_faster(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Return whether rates ``ours`` are clearly higher than ``theirs``, compared turn by turn.

    The median and most turns must be higher: other load on the machine affects both sides of a turn equally.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return median(ratios) > CLEAR_WIN and sum(ratio > 1 for ratio in ratios) >= _MOST_TURNS * len(ratios)
