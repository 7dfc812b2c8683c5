"""Measures how long 20 rules take for 200 detections in each engine, to load a file, and to stop one that loops."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bench.result import Figure, Goal, Result
from detectors.geometry.arrays import Detections
from detectors.rules.engines import swi, trealla
from detectors.rules.engines.port import RulesEngine, RulesLimits
from detectors.rules.evaluator import RulesEvaluator
from detectors.rules.facts import FrameFacts
from detectors.rules.rules_file import RulesFile, parse_rules
from schemas.event_base import ModelRef

_DETECTIONS, _MORE = 200, 1_000
_LABELS = ("cow", "sheep", "bird")
_FACTS = FrameFacts(4000, 3000, ModelRef(name="herd", version="1"), gsd_m=0.05, device="drone-7")
_RULES = """
rule(small, D, drop) :- label(D, cow), length_m(D, L), L < 0.6.
rule(large, D, drop) :- label(D, sheep), length_m(D, L), L > 1.95.
rule(at_the_edge, D, drop) :- at_edge(D), confidence(D, C), C < 0.4.
rule(second, D, drop) :- overlap(D, E, I), I > 0.5, confidence(E, Better), confidence(D, C), C < Better.
rule(herd, D, confirm) :- label(D, cow), aggregate_all(count, (near_m(D, E, 15), label(E, cow)), N), N >= 3.
rule(lamb, D, relabel(lamb)) :- label(D, sheep), length_m(D, L), L < 0.7, near_m(D, E, 5), label(E, sheep).
rule(lonely, D, drop) :- label(D, sheep), \\+ near_m(D, _, 20).
rule(night, D, drop) :- label(D, bird), time(Hour, _, _), Hour > 21.
rule(left, D, relabel(visitor)) :- label(D, cow), centre(D, X, _), X < 0.02, confidence(D, C), C > 0.9.
rule(other_device, D, drop) :- device('drone-8'), label(D, cow).
""" + "".join(
    f"rule(zone_{n}, D, drop) :- label(D, bird), confidence(D, C), C < {n / 100}, box(D, X, _, _, Y), X < Y.\n"
    for n in range(10)
)
_LOOP = "rule(fine, D, confirm) :- label(D, cow).\nrule(round, _, drop) :- again.\nagain :- again.\n"
_NOTE = (
    f"{_DETECTIONS} detections of three classes all over a 4000×3000 frame, and 20 rules: sizes, neighbours, overlaps, "
    "counts, places, time. One thread; medians of whole evaluations, from detections to rulings. The first start of "
    "Trealla, which compiles its module, is not in them. A file that loops is stopped, run again to find its line, and "
    "explained."
)


def run(quick: bool) -> Result:
    """Measure each engine that is installed; quick: fewer rounds."""
    rounds = 10 if quick else 60
    figures: list[Figure] = []
    for name, why, start in (
        ("Trealla", trealla.why_unavailable(), lambda: trealla.TreallaEngine(Path(".standgale") / "engines")),
        ("SWI-Prolog", swi.why_unavailable(), swi.SwiEngine),
    ):
        figures += _figures(name, None if why is not None else start(), rounds)
    return Result("rules", "Rules on detections", tuple(figures), (_NOTE,))


def _figures(name: str, engine: RulesEngine | None, rounds: int) -> list[Figure]:
    goal = Goal(30, "below") if name == "Trealla" else None
    wanted: list[tuple[str, Callable[[RulesEngine], float], Goal | None]] = [
        (f"{name}: {_DETECTIONS} detections, 20 rules", lambda one: _ms(one, _DETECTIONS, rounds), goal),
        (f"{name}: {_MORE:,} detections, 20 rules", lambda one: _ms(one, _MORE, rounds), None),
        (f"{name}: loading 20 rules", lambda one: _load_ms(one, rounds), None),
        (
            f"{name}: a loop is stopped and explained",
            lambda one: _loop_ms(one, max(3, rounds // 10)),
            Goal(1000, "below"),
        ),
    ]
    figures = [Figure(what, None if engine is None else of(engine), "ms", aim) for what, of, aim in wanted]
    if engine is not None:
        engine.close()
    return figures


def _ms(engine: RulesEngine, count: int, rounds: int) -> float:
    evaluator = RulesEvaluator(lambda: engine, RulesLimits(seconds=20.0))
    rules, found = parse_rules(_RULES.encode(), "herd.pl"), scattered(count)
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        _require(evaluator.evaluate(rules, _FACTS, found, _LABELS).problem is None)
        times.append(time.perf_counter() - start)
    evaluator.close_programs()
    return 1_000 * median(times[1:])


def _load_ms(engine: RulesEngine, rounds: int) -> float:
    times = []
    for number in range(rounds // 2):
        start = time.perf_counter()
        rules = parse_rules(f"% {number}\n{_RULES}".encode(), "herd.pl")
        program = engine.load(rules.program.text, RulesLimits())
        times.append(time.perf_counter() - start)
        program.close()
    return 1_000 * median(times)


def _loop_ms(engine: RulesEngine, rounds: int) -> float:
    found = scattered(_DETECTIONS)
    times = []
    for number in range(rounds):
        evaluator = RulesEvaluator(lambda: engine)
        rules: RulesFile = parse_rules(f"% {number}\n{_LOOP}".encode(), "loop.pl")
        start = time.perf_counter()
        problem = evaluator.evaluate(rules, _FACTS, found, _LABELS).problem
        times.append(time.perf_counter() - start)
        _require("line 3, rule round" in str(problem))
        evaluator.close_programs()
    return 1_000 * median(times)


def _require(holds: bool) -> None:
    if not holds:
        raise AssertionError("the rules did not do what the benchmark measures")


def scattered(count: int) -> Detections:
    """Return ``count`` detections all over the frame, the best score first."""
    rng = np.random.default_rng(count)
    corners = rng.uniform((0, 0), (3960, 2960), (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, 40, (count, 2))], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.25, 1, count))[::-1].astype(np.float32)
    return Detections(boxes, scores, rng.integers(0, 3, count).astype(np.int32))
