"""Checks the evaluator with an engine of its own: limits, pauses, explanations, and what is kept loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from detectors.rules.engines.port import RulesEngineError, RulesLimits, RulesStoppedError
from detectors.rules.evaluator import MOST_DETECTIONS, RulesEvaluator
from detectors.rules.rules_file import RulesFile, parse_rules
from detectors.rules.rulings import Rulings
from infra.errors import SettingsError
from tests.harnesses.rules import LABELS, detections_of, frame_facts

COW = detections_of([("cow", 0.9, (0.0, 0.0, 9.0, 9.0))])


@dataclass
class ScriptedProgram:
    """Runs by a function of what is read."""

    script: Callable[[str], str]
    closed: bool = False

    def run(self, frame: str) -> str:
        return self.script(frame)

    def close(self) -> None:
        self.closed = True


@dataclass
class ScriptedEngine:
    """Loads programs that all run by one script."""

    script: Callable[[str], str]
    name: str = "scripted 1"
    programs: list[ScriptedProgram] = field(default_factory=list)
    closed: bool = False

    def load(self, program: str, limits: RulesLimits) -> ScriptedProgram:
        del limits
        assert "'the rule'" in program
        self.programs.append(ScriptedProgram(self.script))
        return self.programs[-1]

    def close(self) -> None:
        self.closed = True


def rules_named(name: str) -> RulesFile:
    return parse_rules(f"% {name}\nrule({name}, D, drop) :- label(D, cow).\n".encode(), f"{name}.pl")


def evaluated(evaluator: RulesEvaluator, rules: RulesFile) -> Rulings:
    return evaluator.evaluate(rules, frame_facts(), COW, LABELS)


def stopped(frame: str) -> str:
    output = "trying 0 0\n" if frame.startswith("frame(yes") else ""
    raise RulesStoppedError("time", "they were not done after 0.25 s", output)


def test_rulings_are_those_that_the_program_wrote() -> None:
    evaluator = RulesEvaluator(lambda: ScriptedEngine(lambda _: "drop 0 0\n\ndone\n"))
    found = evaluated(evaluator, rules_named("small"))
    assert (found.problem, found.drops(0), found.engine) == (None, True, "scripted 1")


def test_a_stop_is_explained_with_the_line_and_changes_nothing() -> None:
    found = evaluated(RulesEvaluator(lambda: ScriptedEngine(stopped)), rules_named("round"))
    assert found.by_number == {}
    assert found.problem == (
        "rules file round.pl, line 2, rule round: the rules were stopped, because they were not done after 0.25 s"
    )


def test_an_error_of_prolog_is_explained_with_the_line() -> None:
    def script(frame: str) -> str:
        trying = "trying 0 0\n" if frame.startswith("frame(yes") else ""
        return f"{trying}\nerror error(evaluation_error(zero_divisor),/)\n\ndone\n"

    found = evaluated(RulesEvaluator(lambda: ScriptedEngine(script)), rules_named("half"))
    assert str(found.problem).startswith("rules file half.pl, line 2, rule half: a number is divided by zero (error(")


def test_rules_that_are_stopped_three_times_in_a_row_pause_for_a_minute() -> None:
    now, runs = [0.0], [0]

    def script(frame: str) -> str:
        runs[0] += not frame.startswith("frame(yes")
        return stopped(frame)

    evaluator = RulesEvaluator(lambda: ScriptedEngine(script), now=lambda: now[0])
    problems = [str(evaluated(evaluator, rules_named("round")).problem) for _ in range(6)]
    assert runs == [3]
    assert "pause" not in problems[1]
    assert problems[2].endswith("that was 3 times in a row, so they pause for 60 s")
    assert problems[5] == problems[2]
    now[0] = 61.0
    evaluated(evaluator, rules_named("round"))
    assert runs == [4]


def test_a_run_that_succeeds_ends_the_row_of_stops() -> None:
    outcomes = iter([True, True, False, True, True, False])

    def script(frame: str) -> str:
        if frame.startswith("frame(yes") or not next(outcomes):
            return "\ndone\n"
        return stopped(frame)

    evaluator = RulesEvaluator(lambda: ScriptedEngine(script))
    problems = [evaluated(evaluator, rules_named("round")).problem for _ in range(6)]
    assert not any("pause" in str(one) for one in problems)


@pytest.mark.parametrize("error", [SettingsError("no engine"), RulesEngineError("no engine")])
def test_a_missing_engine_is_a_problem_of_the_frame_and_tried_again(error: Exception) -> None:
    opened = [0]

    def open_engine() -> ScriptedEngine:
        opened[0] += 1
        if opened[0] == 1:
            raise error
        return ScriptedEngine(lambda _: "\ndone\n")

    evaluator = RulesEvaluator(open_engine)
    assert "no engine" in str(evaluated(evaluator, rules_named("a")).problem)
    assert evaluated(evaluator, rules_named("a")).problem is None


def test_a_program_whose_engine_failed_is_loaded_again() -> None:
    outputs = iter(["nonsense", "\ndone\n"])
    engine = ScriptedEngine(lambda _: next(outputs))
    evaluator = RulesEvaluator(lambda: engine)
    assert "wrote no end" in str(evaluated(evaluator, rules_named("a")).problem)
    assert evaluated(evaluator, rules_named("a")).problem is None
    assert [one.closed for one in engine.programs] == [True, False]


def test_each_file_is_loaded_once_and_the_eight_last_used_are_kept() -> None:
    engine = ScriptedEngine(lambda _: "\ndone\n")
    evaluator = RulesEvaluator(lambda: engine)
    for name in "abcdefgh":
        evaluated(evaluator, rules_named(name))
    evaluated(evaluator, rules_named("a"))
    evaluated(evaluator, rules_named("i"))
    assert [one.closed for one in engine.programs] == [False, True, *[False] * 7]
    evaluator.close()
    assert all(one.closed for one in engine.programs)
    assert engine.closed


def test_a_frame_with_too_many_detections_is_not_given_to_rules() -> None:
    evaluator = RulesEvaluator(lambda: pytest.fail("no engine is needed"))
    many = detections_of([("cow", 0.5, (0.0, 0.0, 1.0, 1.0))] * (MOST_DETECTIONS + 1))
    found = evaluator.evaluate(rules_named("a"), frame_facts(), many, LABELS)
    assert f"at most {MOST_DETECTIONS:,}" in str(found.problem)
