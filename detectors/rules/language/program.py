"""Makes the program of a rules file, as an engine runs it: every call is one of those that the check has seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from detectors.rules.language.reader import Clause
from detectors.rules.language.terms import Atom, Compound, Number, Place, Term, Variable, signature, write_term
from detectors.rules.language.vocabulary import BUILTINS, FACT_BY_SIGNATURE, RULE, Argument, Signature

# Predicates of the file, facts and what rulings.pl defines have spaces in their names: none is one of the engine's.
_OWN, _FACT, _TRYING, _RULE = "own ", "fact ", "trying rule", "the rule"
# Where a detection, as rulings.pl describes it, holds a fact itself.
_PLACES: Mapping[Signature, int] = {("label", 2): 3, ("confidence", 2): 4}
# Engines round a half to different sides, and one has no integer/1: what the standard says is computed.
_ROUNDED = frozenset((("round", 1), ("integer", 1)))
_EVALUATED = frozenset((("sum", 1), ("max", 1), ("min", 1)))
_RENAMED = {"aggregate_all": "collected", "atom_number": "atom of number", "false": "fail", "not": "\\+"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Names one clause of ``rule/3``, by its place in the file."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Program:
    """Holds the clauses for an engine, one in a line, and the rules by their number."""

    text: str
    rules: tuple[Rule, ...]
    labels: tuple[str, ...] = ()
    """What rules may call a detection: the labels in their heads, in the order of the file."""


def make_program(clauses: Sequence[Clause]) -> Program:
    """Return the program of ``clauses``, in which the check has found no error."""
    maker = _ProgramMaker(clauses)
    lines = list(maker.lines())
    text = "".join(f"{line}.\n" for line in lines)
    return Program(text, tuple(maker.rules), tuple(dict.fromkeys(maker.labels)))


class _ProgramMaker:
    def __init__(self, clauses: Sequence[Clause]) -> None:
        self._clauses = clauses
        self.rules: list[Rule] = []
        self.labels: list[str] = []

    def lines(self) -> Iterator[str]:
        for clause in self._clauses:
            if clause.head is None:
                continue
            if signature(clause.head) == RULE and isinstance(clause.head, Compound):
                yield self._rule(clause.head, clause.body)
            else:
                head = self._renamed(_OWN, clause.head)
                body = None if clause.body is None else self._goal(clause.body, 0, None)
                yield write_term(head) if body is None else f"{write_term(head)} :- {write_term(body)}"

    def _rule(self, head: Compound, body: Term | None) -> str:
        """Return a clause of ``rule/3`` that says where it is before it tries its conditions."""
        name, detection, ruling = head.arguments
        number = Number(len(self.rules), head.place)
        self.rules.append(Rule(name.name if isinstance(name, Atom) else "", head.place))
        label = ruling.arguments[0] if isinstance(ruling, Compound) else None
        if isinstance(label, Atom):
            self.labels.append(label.name)
        at = Compound(_TRYING, (number, detection), head.place)
        bound = detection.name if isinstance(detection, Variable) else None
        goals = at if body is None else Compound(",", (at, self._goal(body, 0, bound)), head.place)
        return f"{write_term(Compound(_RULE, (number, detection, ruling), head.place))} :- {write_term(goals)}"

    def _goal(self, goal: Term, added: int, bound: str | None) -> Term:
        """Return ``goal`` as the engine calls it; ``bound``: the variable that is a detection already."""
        called = signature(goal)
        if called is None:
            return goal
        complete = (called[0], called[1] + added)
        if complete in FACT_BY_SIGNATURE:
            return self._fact(goal, complete, bound)
        if complete not in BUILTINS:
            return self._renamed(_OWN, goal)
        name = _RENAMED.get(called[0], called[0])
        if not isinstance(goal, Compound):
            return Atom(name, goal.place)
        kinds = BUILTINS[complete]
        arguments = (
            self._argument(argument, kind, bound) for argument, kind in zip(goal.arguments, kinds, strict=False)
        )
        first, *others = arguments
        if name == "collected" and signature(first) in _EVALUATED:
            first = _computed(first)
        return Compound(name, (first, *others), goal.place)

    def _argument(self, argument: Term, kind: Argument, bound: str | None) -> Term:
        if kind.kind == "goal":
            return self._goal(argument, kind.added, bound)
        if kind.kind == "template_goal":
            if isinstance(argument, Compound) and argument.name == "^" and len(argument.arguments) == 2:
                template, goal = argument.arguments
                return Compound("^", (template, self._argument(goal, kind, bound)), argument.place)
            return self._goal(argument, 0, bound)
        return _computed(argument) if kind.kind == "expression" else argument

    def _fact(self, goal: Term, called: Signature, bound: str | None) -> Term:
        """Return the call of a fact; what a known detection holds itself is taken from it, which is quicker."""
        place = _PLACES.get(called)
        if place is not None and isinstance(goal, Compound) and len(goal.arguments) == 2:
            detection, value = goal.arguments
            if isinstance(detection, Variable) and detection.name == bound:
                return Compound("arg", (Number(place, goal.place), detection, value), goal.place)
        return self._renamed(_FACT, goal)

    @staticmethod
    def _renamed(prefix: str, term: Term) -> Term:
        if isinstance(term, Compound):
            return Compound(prefix + term.name, term.arguments, term.place)
        return Atom(prefix + term.name, term.place) if isinstance(term, Atom) else term


def _computed(expression: Term) -> Term:
    """Return ``expression`` with ``floor(X + 0.5)`` in the place of each rounding."""
    if not isinstance(expression, Compound):
        return expression
    name, arguments = expression.name, tuple(map(_computed, expression.arguments))
    if (name, len(arguments)) in _ROUNDED:
        half = Number(0.5, expression.place)
        name, arguments = "floor", (Compound("+", (*arguments, half), expression.place),)
    return Compound(name, arguments, expression.place)
