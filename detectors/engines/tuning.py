"""The fastest way to run a model on this machine, found by measuring: short rounds in turn, the same tiles for all.

Every engine is first measured in its preferred way, once per precision; what is far behind is left out, what is not is
measured with other streams and batches too, and the contenders then take turns, so that noise hits all of them alike.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from detectors.arrays import ImageArray, Outputs
from detectors.engines.port import Engine, Way
from detectors.errors import InferenceError, ModelLoadError

logger = logging.getLogger(__name__)

CLEAR_WIN = 1.05
"""By how much a way must be faster than one that is preferred to it."""

# A way whose best round is this much slower than the best of all is not worth another, nor are its relatives.
_CONTENDS = 0.75
_ROUND_S = 0.15
# Fewer turns than this may all have met the same noise, so they must show a larger win.
_TURNS_TO_TRUST = 3
_MOST_TURNS = 0.75
_UNTRUSTED_WIN = 1.25
# So much of the time may go into trying ways; the rest is for the turns, which decide.
_TRYING = 0.6
# The preferred ways of all engines are worth this much more time than was allowed when the model is very slow.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One way and how fast it was; tiles_per_s None: not measured, for the reason in ``note``."""

    way: Way
    tiles_per_s: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was measured, in the order of preference, and the way that was chosen."""

    way: Way
    measured: tuple[Measured, ...]

    def sentence(self) -> str:
        """The choice and what it was chosen over, in words."""
        rates = sorted(
            ((one.tiles_per_s, one.way) for one in self.measured if one.tiles_per_s), key=lambda one: -one[0]
        )
        own = next((rate for rate, way in rates if way == self.way), 0.0)
        others = [f"{way} {rate:.1f}" for rate, way in rates if way != self.way]
        if not others:
            return f"{self.way} measured: {own:.1f} tiles/s"
        if rates[0][1] != self.way:
            return f"preferred, and none of {len(rates)} measured is clearly faster: {own:.1f} tiles/s; {others[0]}"
        return f"fastest of {len(rates)} measured: {own:.1f} tiles/s; next {others[0]}"

    def table(self) -> str:
        """One line per way, the fastest first."""
        ordered = sorted(self.measured, key=lambda one: -(one.tiles_per_s or 0))
        return "\n".join(
            f"{one.way}: "
            + (one.note if one.tiles_per_s is None else f"{one.tiles_per_s:.1f} tiles/s {one.note}".strip())
            for one in ordered
        )


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

    @property
    def rate(self) -> float:
        """Tiles per second: of the turns, which all had under the same noise, else of the first round."""
        return median(self.turns) if self.turns else self.tried

    @property
    def best(self) -> float:
        """Noise only ever slows down, so the best round says what may be possible."""
        return max([self.tried, *self.turns])


class Tuner:
    """Measures ways to run one model.

    load: an engine for a way; differs: why outputs for ``tiles`` (uint8 (N, H, W, 3) BGR) are too far from those of
    f32, or None; seconds: about how long it may take in all.
    """

    def __init__(
        self,
        load: Callable[[Way], Engine],
        tiles: ImageArray,
        differs: Callable[[Outputs, Outputs], str | None],
        seconds: float,
    ) -> None:
        self._load = load
        self._tiles = tiles
        self._differs = differs
        self._seconds = seconds
        self._exact: Outputs | None = None
        self._agreed: dict[tuple[str, str], str | None] = {}
        self._candidates: list[_Candidate] = []

    def tune(self, ways: Sequence[Way]) -> tuple[Engine, Tuned]:
        """The fastest of ``ways`` (the preferred first), loaded, and what was measured.

        Raises ModelLoadError when none of them can be loaded and run.
        """
        start = time.perf_counter()
        self._candidates = [_Candidate(way) for way in ways]
        try:
            bases, others = self._sorted()
            for one in bases:
                self._try(one, start + self._seconds * _PATIENCE)
            for one in others:
                self._try_relative(one, bases, start + self._seconds * _TRYING)
            self._take_turns(start + self._seconds)
            best = self._best()
        except BaseException:
            for one in self._candidates:
                one.leave(one.note)
            raise
        engine, best.engine = best.engine, None
        for one in self._candidates:
            one.leave(one.note)
        assert engine is not None
        rows = tuple(Measured(one.way, one.rate or None, one.note) for one in self._candidates)
        return engine, Tuned(best.way, rows)

    def _sorted(self) -> tuple[list[_Candidate], list[_Candidate]]:
        """The first way of each engine and precision, those in f32 first so that others can be compared; the rest."""
        first: dict[tuple[str, str], _Candidate] = {}
        for one in self._candidates:
            first.setdefault((one.way.engine, one.way.precision), one)
        bases = sorted(first.values(), key=lambda one: one.way.precision != "f32")
        return bases, [one for one in self._candidates if one not in bases]

    def _try_relative(self, one: _Candidate, bases: Iterable[_Candidate], until: float) -> None:
        """Measure ``one`` unless its engine and precision were far behind."""
        kin = next(
            base for base in bases if (base.way.engine, base.way.precision) == (one.way.engine, one.way.precision)
        )
        if kin.engine is None or not self._contends(kin):
            one.leave(f"not measured, {kin.way} is far behind" if kin.tried else f"not measured: {kin.note}")
        else:
            self._try(one, until)

    def _try(self, one: _Candidate, until: float) -> None:
        """Load ``one``, compare its answers and measure a first round, unless it is later than ``until``."""
        if time.perf_counter() > until:
            one.leave("not measured, the time was up")
            return
        try:
            one.engine = self._load(one.way)
            why_not = self._too_far(one.way, one.engine)
            if why_not is not None:
                one.leave(f"not used: {why_not}")
                return
            one.tried = self._round(one.engine)
        except (ModelLoadError, InferenceError) as error:
            logger.debug("%s cannot run the model", one.way, exc_info=error)
            one.leave(f"cannot run the model: {error}")

    def _too_far(self, way: Way, engine: Engine) -> str | None:
        """Why the answers of ``engine`` cannot be taken for those of f32; looked at once per engine and precision."""
        key = (way.engine, way.precision)
        if key not in self._agreed:
            outputs = engine.run(self._tiles)
            if way.precision == "f32" and self._exact is None:
                self._exact = outputs
            self._agreed[key] = None if self._exact is None else self._differs(self._exact, outputs)
        return self._agreed[key]

    def _take_turns(self, until: float) -> None:
        """Measure all contenders in turn until time is up, each as often as the others."""
        while True:
            running = [one for one in self._candidates if one.engine is not None]
            contenders = [one for one in running if self._contends(one)]
            if len(contenders) < 2 or time.perf_counter() + len(contenders) * _ROUND_S > until:
                return
            for one in contenders:
                assert one.engine is not None
                one.turns.append(self._round(one.engine))

    def _contends(self, one: _Candidate) -> bool:
        return one.best >= _CONTENDS * max(each.best for each in self._candidates)

    def _round(self, engine: Engine) -> float:
        """Tiles per second of ``engine`` with as many callers as it wants, after a run of each that warms up."""
        batch = self._tiles[np.arange(engine.batch_size) % len(self._tiles)]

        def call(_: int) -> tuple[float, float, int]:
            start, runs = time.perf_counter(), 0
            while runs == 0 or time.perf_counter() - start < _ROUND_S:
                engine.run(batch)
                runs += 1
            return start, time.perf_counter(), runs

        with ThreadPoolExecutor(engine.parallel, thread_name_prefix="measure") as callers:
            list(callers.map(engine.run, [batch] * engine.parallel))
            spans = list(callers.map(call, range(engine.parallel)))
        seconds = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
        return sum(runs for _, _, runs in spans) * len(batch) / seconds

    def _best(self) -> _Candidate:
        """The preferred one, unless another is clearly faster than it."""
        running = [one for one in self._candidates if one.engine is not None]
        if not running:
            raise ModelLoadError("; ".join(f"{one.way}: {one.note}" for one in self._candidates))
        contenders = [one for one in running if self._contends(one)]
        best = contenders[0]
        for one in contenders[1:]:
            if min(len(one.turns), len(best.turns)) >= _TURNS_TO_TRUST:
                wins = clearly_faster(one.turns, best.turns)
            else:
                wins = one.rate > _UNTRUSTED_WIN * best.rate
            best = one if wins else best
        return best


def clearly_faster(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether what had the rates ``ours`` beat what had ``theirs``, rate by rate in the order they were measured.

    By enough in the middle, and in most turns: what the machine did beside it hit both sides of a turn alike.
    """
    ratios = [one / other for one, other in zip(ours, theirs, strict=False)]
    return median(ratios) > CLEAR_WIN and sum(ratio > 1 for ratio in ratios) >= _MOST_TURNS * len(ratios)
