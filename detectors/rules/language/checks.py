"""Checks a rules file: every call leads to a known predicate, every rule to a ruling, and names the line if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from detectors.rules.language.reader import Clause
from detectors.rules.language.terms import Atom, Compound, List, Number, Place, Term, Variable, signature, walk
from detectors.rules.language.vocabulary import (
    AGGREGATES,
    BUILTINS,
    EVALUABLE,
    FACT_BY_SIGNATURE,
    FACTS,
    REFUSED,
    RULE,
    Argument,
    Signature,
)
from infra.texts import shortened

Level = Literal["error", "warning"]

LONGEST_NAME = 100
"""The most characters of a rule's name and of a label."""
LONGEST_TEXT = 300
"""The most characters of a finding; a name of the file, which may be in it, can have a quarter of a million."""
# Who has so many corrects these first. To look for the names that were meant costs most, so it has a limit of its own.
_MOST_ERRORS = 50
_MOST_ALTERNATIVES = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Says what is wrong at a place of a rules file. A file with errors is not used, one with warnings is."""

    level: Level
    place: Place
    text: str

    def __str__(self) -> str:
        return f"line {self.place.line}, column {self.place.column}: {self.text}"


def check_clauses(clauses: Sequence[Clause], labels: Sequence[str] | None = None) -> list[Finding]:
    """Return what is wrong with ``clauses``, by place; ``labels``: those of the model, where it is known."""
    found = list(_Checks(clauses, labels).findings())
    return sorted(found, key=lambda one: (one.place.line, one.place.column, one.text))


def goals_in(
    body: Term, on_goal: Callable[[Term, int], None], on_argument: Callable[[Term, Argument], None] | None = None
) -> None:
    """Call ``on_goal`` with each goal in ``body`` and how many arguments its call adds.

    ``on_argument`` gets each argument of a known predicate of Prolog that is no goal itself.
    """
    waiting: list[tuple[Term, int]] = [(body, 0)]
    while waiting:
        goal, added = waiting.pop()
        on_goal(goal, added)
        if not isinstance(goal, Compound):
            continue
        kinds = BUILTINS.get((goal.name, len(goal.arguments) + added))
        for kind, argument in zip(kinds or (), goal.arguments, strict=False):
            if kind.kind == "goal":
                waiting.append((argument, kind.added))
            elif kind.kind == "template_goal":
                waiting.append((without_template(argument), 0))
            elif on_argument is not None:
                on_argument(argument, kind)


def without_template(goal: Term) -> Term:
    """Return the goal in ``Variable^Goal``."""
    while isinstance(goal, Compound) and goal.name == "^" and len(goal.arguments) == 2:
        goal = goal.arguments[1]
    return goal


class _Checks:
    def __init__(self, clauses: Sequence[Clause], labels: Sequence[str] | None) -> None:
        self._clauses = clauses
        self._labels = labels
        heads = (signature(one.head) for one in clauses if one.head is not None)
        self._defined = Counter(head for head in heads if head is not None)
        self._called: set[Signature] = set()
        self._found: list[Finding] = []
        self._errors = 0
        self._alternatives = 0

    def findings(self) -> Iterator[Finding]:
        for clause in self._clauses:
            if self._errors >= _MOST_ERRORS:
                yield from self._found
                yield Finding("error", clause.place, f"the check ends here, after {self._errors} errors")
                return
            self._check_clause(clause)
        if not self._defined[RULE]:
            self._add(
                "error",
                Place(1, 1),
                "there is no rule; write for example: rule(too_small, D, drop) :- length_px(D, L), L < 9.",
            )
        self._check_unused()
        yield from self._found

    def _add(self, level: Level, place: Place, text: str) -> None:
        self._errors += level == "error"
        self._found.append(Finding(level, place, shortened(text, LONGEST_TEXT)))

    def _check_clause(self, clause: Clause) -> None:
        if clause.head is None:
            self._add("error", clause.place, "directives (:- …) are not run in rules; leave it out")
            return
        self._check_head(clause)
        if clause.body is not None:
            goals_in(clause.body, self._check_goal, self._check_argument)
        self._check_singletons(clause)

    def _check_head(self, clause: Clause) -> None:
        head, place = clause.head, clause.place
        called = None if head is None else signature(head)
        if head is None or called is None:
            self._add("error", place, "a clause begins with a name, for example rule(name, D, drop)")
            return
        if called == RULE and isinstance(head, Compound):
            self._check_rule(head)
        elif called[0] == RULE[0]:
            self._add("error", place, f"rule takes 3 arguments (name, D, ruling), this one has {called[1]}")
        elif called in FACT_BY_SIGNATURE:
            self._add("error", place, f"{_named(called)} is a fact of the frame; give yours another name")
        elif called in BUILTINS:
            self._add("error", place, f"{_named(called)} belongs to Prolog; give yours another name")

    def _check_rule(self, head: Compound) -> None:
        name, detection, ruling = head.arguments
        if not isinstance(name, Atom) or not name.name:
            self._add("error", name.place, "the first argument of a rule is its name, for example too_small")
        elif len(name.name) > LONGEST_NAME or not name.name.isprintable():
            self._add("error", name.place, f"a rule's name is one line of at most {LONGEST_NAME} characters")
        if not isinstance(detection, Variable):
            self._add("error", detection.place, "the second argument of a rule is the detection, a variable such as D")
        self._check_ruling(ruling)

    def _check_ruling(self, ruling: Term) -> None:
        if signature(ruling) in (("confirm", 0), ("drop", 0)):
            return
        if not (isinstance(ruling, Compound) and signature(ruling) == ("relabel", 1)):
            text = f"the third argument of a rule is confirm, drop or relabel(label){_instead(ruling)}"
            self._add("error", ruling.place, text)
            return
        label = ruling.arguments[0]
        if isinstance(label, Variable):
            return
        if not isinstance(label, Atom) or not 0 < len(label.name) <= LONGEST_NAME or not label.name.isprintable():
            self._add("error", label.place, f"a label is a name of at most {LONGEST_NAME} characters, such as cow")
        elif self._labels is not None and label.name not in self._labels:
            other = self._alternative(label.name, self._labels)
            text = f"the model has no label {label.name}{other}; the detection gets it all the same"
            self._add("warning", label.place, text)

    def _check_goal(self, goal: Term, added: int) -> None:
        if isinstance(goal, Variable):
            self._add("error", goal.place, f"{goal.name} is called, and which goal it is must be in the file")
            return
        base = signature(goal)
        if base is None:
            self._add("error", goal.place, "here a condition is needed, for example label(D, cow)")
            return
        called = (base[0], base[1] + added)
        if called == RULE:
            self._add("error", goal.place, "rules cannot call each other; give what they share a name of its own")
        elif called in self._defined:
            self._called.add(called)
        elif called in FACT_BY_SIGNATURE:
            self._check_fact(goal, called)
        elif called not in BUILTINS:
            self._add("error", goal.place, self._unknown(called))
        else:
            self._check_builtin(goal, called, BUILTINS[called][base[1] :])

    def _check_builtin(self, goal: Term, called: Signature, added: Sequence[Argument]) -> None:
        """Check a call of Prolog's; of ``added`` arguments nothing is known, so they cannot be goals."""
        if any(one.kind in ("goal", "template_goal") for one in added):
            self._add("error", goal.place, f"{_named(called)} would call a goal that is not in the file")
        elif called == ("aggregate_all", 3) and isinstance(goal, Compound) and not added:
            collected = goal.arguments[0]
            if signature(collected) not in AGGREGATES:
                text = "aggregate_all collects count, sum(X), max(X), min(X), bag(X) or set(X)"
                self._add("error", collected.place, text)

    def _check_fact(self, goal: Term, called: Signature) -> None:
        fact = FACT_BY_SIGNATURE[called]
        if not fact.of_detection or not isinstance(goal, Compound):
            return
        if not isinstance(goal.arguments[0], Variable):
            text = f"the first argument of {fact.call} is a detection, a variable such as D"
            self._add("error", goal.arguments[0].place, text)
        label = goal.arguments[1] if called == ("label", 2) and len(goal.arguments) == 2 else None
        if isinstance(label, Number | List | Compound):
            self._add("error", label.place, "a label is a name, such as cow or 'traffic light'")
        if isinstance(label, Atom) and self._labels is not None and label.name not in self._labels:
            other = self._alternative(label.name, self._labels)
            self._add("warning", label.place, f"the model has no label {label.name}, so this never holds{other}")

    def _check_argument(self, argument: Term, kind: Argument) -> None:
        if kind.kind == "expression":
            self._check_expression(argument)

    def _check_expression(self, expression: Term) -> None:
        for part in walk(expression):
            called = signature(part)
            if isinstance(part, List):
                self._add("error", part.place, "a list is no number")
                return
            if called is not None and called not in EVALUABLE:
                known = sorted({name for name, _ in EVALUABLE if name.isalnum()})
                other = self._alternative(called[0], known)
                self._add("error", part.place, f"arithmetic has no {_named(called)}{other}")
                return

    def _unknown(self, called: Signature) -> str:
        """Return why ``called`` is no predicate that rules may call."""
        name, number = called
        same = [fact for fact in FACTS if fact.name == name]
        if same:
            return f"{name} takes {_arguments(len(same[0].arguments))}: {same[0].call}; here it has {number}"
        others = sorted({count for known, count in (*BUILTINS, *self._defined) if known == name})
        if others:
            return f"{name} takes {' or '.join(map(str, others))} arguments; here it has {number}"
        if name in REFUSED:
            return f"{_named(called)} is not available: {REFUSED[name]}"
        known = (*(fact.name for fact in FACTS), *(name for name, _ in self._defined), *(name for name, _ in BUILTINS))
        return f"there is no {_named(called)}{self._alternative(name, known)}"

    def _alternative(self, name: str, known: Iterable[str]) -> str:
        if self._alternatives >= _MOST_ALTERNATIVES or len(name) > LONGEST_NAME:
            return ""
        self._alternatives += 1
        close = get_close_matches(name, list(known), 1)
        return f"; did you mean {close[0]}?" if close else ""

    def _check_singletons(self, clause: Clause) -> None:
        terms = [term for term in (clause.head, clause.body) if term is not None]
        variables = [one for term in terms for one in walk(term) if isinstance(one, Variable)]
        counted = Counter(one.name for one in variables)
        for one in variables:
            if counted[one.name] == 1 and not one.name.startswith("_"):
                text = f"the variable {one.name} is here only; write _ if it does not matter, or correct its name"
                self._add("warning", one.place, text)

    def _check_unused(self) -> None:
        for clause in self._clauses:
            defined = None if clause.head is None else signature(clause.head)
            is_ordinary = defined is not None and defined[0] != RULE[0]
            if defined is not None and is_ordinary and defined not in self._called | FACT_BY_SIGNATURE.keys():
                self._called.add(defined)
                self._add("warning", clause.place, f"nothing calls {_named(defined)}")


def _named(called: Signature) -> str:
    return f"{called[0]}/{called[1]}"


def _arguments(number: int) -> str:
    return f"{number} argument{'s' * (number != 1)}"


def _instead(ruling: Term) -> str:
    called = signature(ruling)
    if called is None or len(called[0]) > LONGEST_NAME:
        return ""
    close = get_close_matches(called[0], ("confirm", "drop", "relabel"), 1, 0.5)
    return f", and this is {_named(called)}" + (f"; did you mean {close[0]}?" if close else "")
