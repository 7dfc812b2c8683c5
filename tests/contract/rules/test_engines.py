"""Every engine for rules gives the same rulings, and none is hurt by rules that run away."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from detectors.rules.engines.port import RulesEngine, RulesEngineError, RulesLimits, RulesStoppedError
from detectors.rules.evaluator import RulesEvaluator
from detectors.rules.facts import FrameFacts, write_frame
from detectors.rules.language.program import make_program
from detectors.rules.language.reader import read_clauses
from detectors.rules.language.terms import write_atom
from detectors.rules.rules_file import parse_rules
from detectors.rules.rulings import Rulings
from tests.harnesses.rules import LABELS, Row, detections_of, frame_facts, open_engine
from tests.paths import ROOT

pytestmark = pytest.mark.integration

ROWS: list[Row] = [
    ("cow", 0.9, (100, 100, 140, 120)),
    ("cow", 0.8, (150, 100, 190, 130)),
    ("sheep", 0.7, (1000, 1000, 1010, 1008)),
    ("bird", 0.6, (0, 2000, 30, 2020)),
    ("cow", 0.5, (110, 105, 130, 118)),
]
FACTS = frame_facts(
    gsd_m=0.1,
    captured_at=datetime(2026, 11, 30, 21, 4, 5, tzinfo=UTC),
    device="drone-7",
    metadata={"zone": "it's a 'zone'\n", "flag": True, "n": 2.5},
)
# A child process has a limit of wall time, and the machine may be busy.
GENEROUS = RulesLimits(seconds=10.0)


@pytest.fixture(scope="module", params=["trealla", "swi"])
def engine(request: pytest.FixtureRequest) -> Iterator[RulesEngine]:
    opened = open_engine(request.param)
    yield opened
    opened.close()


def evaluated(engine: RulesEngine, text: str, rows: list[Row] = ROWS, facts: FrameFacts = FACTS) -> Rulings:
    evaluator = RulesEvaluator(lambda: engine, GENEROUS)
    rules = parse_rules(text.encode(), "cows.pl")
    try:
        return evaluator.evaluate(rules, facts, detections_of(rows), LABELS)
    finally:
        evaluator.close_programs()


def chosen(engine: RulesEngine, body: str, rows: list[Row] = ROWS, facts: FrameFacts = FACTS) -> list[int]:
    """Return the numbers of the detections for which ``body`` holds."""
    found = evaluated(engine, f"rule(a, D, drop) :- {body}.", rows, facts)
    assert found.problem is None
    return sorted(found.by_number)


CONDITIONS: list[tuple[str, list[int]]] = [
    ("label(D, cow)", [0, 1, 4]),
    ("label(D, 'sheep')", [2]),
    ("confidence(D, C), C >= 0.7", [0, 1, 2]),
    ("confidence(D, 0.7)", [2]),
    ("box_px(D, 100.0, 100.0, 140.0, 120.0)", [0]),
    ("box(D, X1, Y1, X2, Y2), X1 > 0.02, Y1 > 0.03, X2 < 0.04, Y2 < 0.042", [0, 4]),
    ("centre_px(D, 15.0, 2010.0)", [3]),
    ("centre(D, X, _), X < 0.01", [3]),
    ("size_px(D, 40.0, 20.0)", [0]),
    ("size_m(D, W, _), W >= 4", [0, 1]),
    ("length_px(D, L), L =< 10", [2]),
    ("length_m(D, L), L =< 1", [2]),
    ("breadth_px(D, B), B < 10", [2]),
    ("breadth_m(D, B), B < 0.81", [2]),
    ("near_px(D, E, 52), label(E, cow)", [0, 1, 4]),
    ("near_px(D, _, 40)", [0, 4]),
    ("near_m(D, _, 4)", [0, 4]),
    ("\\+ near_px(D, _, 1000)", [2, 3]),
    ("label(E, sheep), distance_px(D, E, P), P < 1300", [0, 1, 4]),
    ("label(E, bird), distance_m(D, E, M), M < 150", [2]),
    ("overlap(D, E, I), I > 0.2", [0, 4]),
    ("within(D, E, S), S > 0.99, label(E, cow)", [4]),
    ("at_edge(D)", [3]),
    ("frame_px(4000, 3000), detections(5), label(D, bird)", [3]),
    ("gsd_m(0.1), label(D, bird)", [3]),
    ("device('drone-7'), label(D, bird)", [3]),
    ("date(2026, 11, 30), weekday(1), time(21, 4, 5), label(D, bird)", [3]),
    ("model(cows, '1.0'), label(D, bird)", [3]),
    ("metadata(zone, 'it\\'s a \\'zone\\'\\n'), metadata(flag, true), metadata(n, 2.5), label(D, bird)", [3]),
    ("( place(_, _) ; flight(_) ; video(_, _) ; altitude_m(_) ; heading(_) ; pitch(_) ), detection(D)", []),
    ("aggregate_all(count, (near_px(D, E, 60), label(E, cow)), 2)", [0, 1, 4]),
    ("aggregate_all(max(S), confidence(_, S), M), confidence(D, M)", [0]),
    ("aggregate_all(min(S), confidence(_, S), M), confidence(D, M)", [4]),
    ("aggregate_all(sum(1), near_px(D, _, 60), 2)", [0, 1, 4]),
    ("aggregate_all(bag(L), label(_, L), Ls), length(Ls, 5), label(D, bird)", [3]),
    ("aggregate_all(set(L), label(_, L), [bird, cow, sheep]), label(D, bird)", [3]),
    ("aggregate_all(max(S), (confidence(E, S), label(E, none)), _), detection(D)", []),
    ("findall(E, near_px(D, E, 60), Es), length(Es, 2)", [0, 1, 4]),
    ("setof(L, E^label(E, L), [bird, cow, sheep]), label(D, bird)", [3]),
    ("bagof(E, label(E, cow), Es), length(Es, 3), label(D, bird)", [3]),
    ("forall(near_px(D, E, 60), label(E, cow))", [0, 1, 2, 3, 4]),
    ("maplist(label(D), [cow, cow])", [0, 1, 4]),
    ("call(label(D), bird)", [3]),
    ("foldl(plus, [1, 2, 3], 0, 6), label(D, bird)", [3]),
    ("include(label(D), [cow, bird], [bird]), exclude(label(D), [cow, bird], [cow])", [3]),
    ("( label(D, cow) -> confidence(D, C), C > 0.85 ; label(D, bird) )", [0, 3]),
    ("once(( label(D, L), member(L, [bird, sheep]) ))", [2, 3]),
    ("label(D, L), atom_length(L, 4), sub_atom(L, 0, 2, _, bi), atom_concat(bi, _, L)", [3]),
    ("X is 7 mod 3 + 2 * max(1, 2) + truncate(2.7) + abs(-1) - 7 // 2, X =:= 5, label(D, bird)", [3]),
    ("3 =:= round(2.5), -2 =:= round(-2.5), 3 =:= integer(2.5), 7 =:= integer(7), label(D, bird)", [3]),
    ("X is 2 ** 3.0 + sqrt(16) + cos(0) + 2 ^ 3 + pi * 0, X =:= 21.0, label(D, bird)", [3]),
    ("X is atan2(1, 1) * 4 - pi, abs(X) < 0.001, label(D, bird)", [3]),
    ("msort([c, a, b, a], [a, a, b, c]), sort([b, a, b], [a, b]), label(D, bird)", [3]),
    ("nth0(1, [a, b], b), nth1(1, [a, b], a), last([a, b], b), reverse([a, b], [b, a]), label(D, bird)", [3]),
    ("sum_list([1, 2], 3), max_list([1, 2], 2), min_list([1, 2], 1), label(D, bird)", [3]),
    ("subtract([a, b], [a], [b]), select(a, [a, b], [b]), label(D, bird)", [3]),
    ("list_to_set([a, b, a], [a, b]), keysort([b - 1, a - 2], [a - 2, b - 1]), label(D, bird)", [3]),
    ("compare(<, 1, 2), functor(f(x), f, 1), arg(1, f(x), x), f(x) =.. [f, x], label(D, bird)", [3]),
    ("atom_codes(abc, [97, 98, 99]), atom_chars(X, [a, b]), X == ab, char_code(a, 97), label(D, bird)", [3]),
    ("atom_number('12', 12), atom_number(A, 3), A == '3', \\+ atom_number(_, a), label(D, bird)", [3]),
    ("between(1, 3, 2), succ(1, 2), plus(1, 2, 3), label(D, bird)", [3]),
    ("copy_term(f(X), f(Y)), X \\== Y, var(X), nonvar(a), atom(a), number(1), label(D, bird)", [3]),
    (
        "is_list([a]), ground(a), callable(a), atomic(1), compound(f(x)), float(1.0), integer(1), label(D, bird)",
        [3],
    ),
    ("append(X, [c], [a, b, c]), X == [a, b], memberchk(b, X), label(D, bird)", [3]),
    ("ignore(fail), not(fail), true, \\+ false, a @< b, 1 =\\= 2, label(D, bird)", [3]),
]
"""Each with the numbers of the detections of which it holds."""


def test_conditions_hold_for_the_same_detections_on_every_engine(engine: RulesEngine) -> None:
    # One program for all: every condition that holds adds a letter to the new label.
    clauses = "".join(f"holds({0x4E00 + n}, D) :- {body}.\n" for n, (body, _) in enumerate(CONDITIONS))
    rule = "'the rule'(0, D, relabel(L)) :- findall(C, 'own holds'(C, D), Cs), atom_codes(L, [0'x|Cs]).\n"
    program = engine.load(rule + make_program(read_clauses(clauses)[0]).text, GENEROUS)
    output = program.run(write_frame(FACTS, detections_of(ROWS), LABELS))
    program.close()
    labels = [line.split(" ") for line in output.splitlines() if line.startswith("relabel ")]
    assert len(labels) == len(ROWS), output
    for n, (body, numbers) in enumerate(CONDITIONS):
        assert sorted(int(number) for _, _, number, label in labels if chr(0x4E00 + n) in label) == numbers, body


def test_first_rule_that_holds_decides_and_a_cut_ends_the_rules(engine: RulesEngine) -> None:
    found = evaluated(
        engine,
        "rule(first, D, confirm) :- label(D, cow), confidence(D, C), C > 0.85.\n"
        "rule(second, D, relabel('calf 2')) :- young(D).\n"
        "rule(third, D, drop) :- label(D, sheep), !, fail.\n"
        "rule(fourth, _, drop).\n"
        "young(D) :- label(D, cow).\n",
    )
    assert {number: (one.kind, one.rule.name, one.label) for number, one in found.by_number.items()} == {
        0: ("confirm", "first", None),
        1: ("relabel", "second", "calf 2"),
        3: ("drop", "fourth", None),
        4: ("relabel", "second", "calf 2"),
    }


def test_neighbours_are_those_of_a_search_over_all_pairs(engine: RulesEngine) -> None:
    rng = np.random.default_rng(11)
    corners = rng.uniform(0, 2000, (420, 2))
    rows: list[Row] = [("cow", 0.5, (x, y, x + 20, y + 10)) for x, y in corners.round(1).tolist()]
    centres = np.array([[(x1 + x2) / 2, (y1 + y2) / 2] for _, _, (x1, y1, x2, y2) in rows], np.float32)
    distances = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    expected = np.flatnonzero((distances < 60).sum(axis=1) - 1 == 3).tolist()
    assert expected
    assert chosen(engine, "aggregate_all(count, near_px(D, _, 60), 3)", rows) == expected


def test_a_frame_without_detections_has_no_rulings(engine: RulesEngine) -> None:
    assert evaluated(engine, "rule(a, D, drop) :- label(D, cow).", []).by_number == {}


def test_unknown_scale_makes_conditions_in_metres_fail(engine: RulesEngine) -> None:
    assert chosen(engine, "( length_m(D, _) ; near_m(D, _, 9) ; size_m(D, _, _) )", facts=frame_facts()) == []


@given(labels=st.lists(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20), max_size=20))
@hypothesis_settings(max_examples=10)
def test_texts_come_back_as_they_were(engine: RulesEngine, labels: list[str]) -> None:
    texts = [*labels, "\\'\\", "0'a", "a.b", "%", "/*", "é€😀", "[]", "{}", "a b", "''", "\\x41\\"]
    facts = frame_facts(metadata={str(number): text for number, text in enumerate(texts)})
    rules = "".join(
        f"rule(r, D, relabel(L)) :- centre_px(D, {n}.5, _), metadata('{n}', L).\n"
        f"rule(never, _, relabel({write_atom(text)})) :- fail.\n"
        for n, text in enumerate(texts)
    )
    rows: list[Row] = [("cow", 0.5, (n, 0, n + 1, 1)) for n in range(len(texts))]
    found = evaluated(engine, rules, rows, facts)
    assert found.problem is None
    assert [found.by_number[number].label for number in range(len(texts))] == texts


RUNAWAYS = [
    "p(D) :- p(D).",
    "p(D) :- q(f(D)).\nq(D) :- q(f(D)).",
    "p(D) :- p(D), q(D).\nq(D) :- q(D).",
    "p(D) :- length(L, N), N > 100000000, L = D.",
    "p(D) :- findall(X, between(1, 1000000000, X), D).",
    "p(_) :- length(L, 100000000), L = [].",
    "p(_) :- q(abc).\nq(A) :- atom_concat(A, A, B), q(B).",
    "p(_) :- X is 7 ^ 100000000, X < 3.",
    "p(_) :- q(3).\nq(X) :- Y is X * X, q(Y).",
    "p(_) :- between(1, 100000000, X), X < 0.",
    "p(_) :- q(1, X), atom_length(X, 3).\nq(N, X) :- N < 60, M is N + 1, q(M, Y), atom_concat(Y, Y, X).\nq(60, a).",
]


@pytest.mark.parametrize("runaway", RUNAWAYS)
def test_rules_that_run_away_are_stopped_with_their_line(engine: RulesEngine, runaway: str) -> None:
    evaluator = RulesEvaluator(lambda: engine, RulesLimits(seconds=0.25))
    text = f"rule(fine, D, confirm) :- confidence(D, 2).\nrule(away, D, drop) :- p(D).\n{runaway}\n"
    rules = parse_rules(text.encode(), "cows.pl")
    start = time.process_time()
    found = evaluator.evaluate(rules, FACTS, detections_of(ROWS), LABELS)
    # Of this process; the time of a child is limited by its own clock.
    assert time.process_time() - start < 3
    assert found.by_number == {}
    assert str(found.problem).startswith("rules file cows.pl, line 2, rule away: ")
    evaluator.close_programs()


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ("rule(a, D, drop) :- detection(D), X is 1 / 0, X > 1.", "divided by zero"),
        ("rule(a, D, drop) :- detection(D), X > 1.", "a variable has no value"),
        (
            "rule(a, D, relabel(L)) :- detection(D), atom_codes(L, [10, 65]).",
            "no label of the model, nor one that a rule names",
        ),
        ("rule(a, D, relabel(L)) :- detection(D), L = 3.", "no label of the model, nor one that a rule names"),
        ("rule(a, D, relabel(L)) :- detection(D), var(L).", "no label of the model, nor one that a rule names"),
    ],
)
def test_errors_in_a_run_are_explained_with_their_line(engine: RulesEngine, rule: str, part: str) -> None:
    found = evaluated(engine, f"\n{rule}")
    assert found.by_number == {}
    assert part in str(found.problem)
    assert "line 2, rule a" in str(found.problem)


def test_a_program_works_again_after_it_was_stopped(engine: RulesEngine) -> None:
    text = "rule(a, D, drop) :- confidence(D, 0.9), loop.\nrule(b, D, drop) :- label(D, sheep).\nloop :- loop."
    rules = parse_rules(text.encode(), "cows.pl")
    program = engine.load(rules.program.text, RulesLimits(seconds=0.1))
    bad, good = (write_frame(FACTS, detections_of(rows), LABELS) for rows in (ROWS, ROWS[2:]))
    with pytest.raises(RulesStoppedError):
        program.run(bad)
    for _ in range(3):
        assert program.run(good) == "drop 1 0\n\ndone\n"
    program.close()


def test_runs_do_not_know_each_other(engine: RulesEngine) -> None:
    rules = parse_rules(b"rule(a, D, drop) :- detections(N), N < 3, label(D, cow).", "cows.pl")
    program = engine.load(rules.program.text, GENEROUS)
    outputs = {program.run(write_frame(FACTS, detections_of(ROWS[:count]), LABELS)) for count in (1, 5, 1, 5) * 3}
    program.close()
    assert outputs == {"drop 0 0\n\ndone\n", "\ndone\n"}


def test_a_frame_is_not_traced_because_one_before_it_was(engine: RulesEngine) -> None:
    rules = parse_rules(b"rule(a, D, drop) :- label(D, bird).", "cows.pl")
    program = engine.load(rules.program.text, GENEROUS)
    outputs = {
        traced: {program.run(write_frame(FACTS, detections_of(ROWS[3:]), LABELS, traced=traced)) for _ in range(2)}
        for traced in (False, True, False)
    }
    program.close()
    assert outputs == {False: {"drop 0 0\n\ndone\n"}, True: {"trying 0 0\ndrop 0 0\ntrying 0 1\n\ndone\n"}}


def test_rules_that_run_away_end_no_process_whose_fault_handler_changed(tmp_path: Path) -> None:
    open_engine("trealla").close()
    script = tmp_path / "worker.py"
    script.write_text(
        "import faulthandler\n"
        "from tests.harnesses.rules import open_engine\n"
        "from tests.contract.rules import test_engines as here\n"
        "faulthandler.enable()\n"
        "engine = open_engine('trealla')\n"
        "faulthandler.disable()\n"
        "here.GENEROUS = here.RulesLimits(seconds=0.25)\n"
        "for runaway in here.RUNAWAYS[-3:]:\n"
        "    text = f'rule(away, D, drop) :- p(D).\\n{runaway}\\n'\n"
        "    assert here.evaluated(engine, text).by_number == {}\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_child_without_its_parent_ends_also_while_rules_run(tmp_path: Path) -> None:
    open_engine("swi").close()
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, threading\n"
        "from detectors.rules.engines.port import RulesLimits\n"
        "from detectors.rules.engines.swi import SwiEngine\n"
        "program = SwiEngine().load(\"'the rule'(0, _, drop) :- repeat, fail.\\n\", RulesLimits(seconds=60))\n"
        "idle = SwiEngine().load('', RulesLimits())\n"
        "print(program._child.pid, idle._child.pid, flush=True)\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), 9)).start()\n"
        "program._limits = RulesLimits(seconds=0.1)\n"
        "program._limit_cpu()\n"
        "program._exchange(sys.argv[1], 60)\n"
    )
    frame = write_frame(FACTS, detections_of(ROWS), LABELS)
    done = subprocess.run(
        [sys.executable, "-P", str(script), frame],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2, done.stderr
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=30)
    assert alive == []


ESCAPES = [
    "open('{path}', write, S), write(S, x), close(S)",
    "shell('touch {path}')",
    "tell('{path}'), write(x), told",
    "consult('/etc/passwd')",
    "load_files('/etc/passwd', [])",
    "use_module(library(socket)), tcp_socket(_)",
    "process_create('/bin/touch', ['{path}'], [])",
    "getenv('HOME', _)",
    "setenv(a, b), shell('/bin/sh -c \"touch {path}\"')",
    "exists_file('/etc/passwd')",
    "exists_directory('/etc')",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_files_and_programs_are_out_of_reach_beneath_the_check(
    engine: RulesEngine, escape: str, tmp_path: Path
) -> None:
    path = tmp_path / "made"
    goal = escape.format(path=path)
    if engine.name.startswith("swi") and ("exists" in goal or "getenv" in goal):
        pytest.skip("the child may ask whether a file exists, and has an environment of its own")
    try:
        program = engine.load(f"'the rule'(0, _, drop) :- {goal}.\n", RulesLimits(seconds=0.4))
        output = program.run(write_frame(FACTS, detections_of(ROWS[:1]), LABELS))
    except (RulesStoppedError, RulesEngineError):
        output = ""
    else:
        program.close()
    assert "drop" not in output
    assert not path.exists()


def test_the_example_of_the_rules_page_gives_the_rulings_of_its_table(engine: RulesEngine) -> None:
    page = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    example = page.partition("```prolog\n")[2].partition("```")[0]
    lines = [line.strip("|").split("|") for line in re.findall(r"^\| cow \|.*$", page, re.MULTILINE)]
    cells = [[cell.strip() for cell in line] for line in lines]
    rows: list[Row] = []
    for label, score, box, _, _ in cells:
        x1, y1, x2, y2 = map(float, box.split(","))
        rows.append((label, float(score), (x1, y1, x2, y2)))
    found = evaluated(engine, example, rows, frame_facts(gsd_m=0.05))
    assert found.problem is None
    shown = []
    for number in range(len(rows)):
        ruling = found.by_number.get(number)
        after = "dropped" if found.drops(number) else (ruling and ruling.label) or rows[number][0]
        shown.append((after, ruling.rule.name if ruling else ""))
    assert shown == [(after, rule) for _, _, _, after, rule in cells]
