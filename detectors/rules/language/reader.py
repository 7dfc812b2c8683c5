"""Reads the clauses of a rules file: the terms of Prolog, with the operators of its standard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import NoReturn

from detectors.rules.language.terms import Atom, Compound, List, Number, Place, Term, Variable, parts
from detectors.rules.language.tokens import RulesSyntaxError, Token, Tokens

_INFIX: dict[str, tuple[int, int, int]] = {
    name: (left, priority, right)
    for priority, left, right, names in (
        (1200, 1199, 1199, ":- -->"),
        (1100, 1099, 1100, ";"),
        (1050, 1049, 1050, "-> *->"),
        (1000, 999, 1000, ","),
        (700, 699, 699, "= \\= == \\== @< @> @=< @>= is =:= =\\= < > =< >= =.."),
        (500, 500, 499, "+ - /\\ \\/"),
        (400, 400, 399, "* / // rem mod div << >>"),
        (200, 199, 199, "**"),
        (200, 199, 200, "^"),
    )
    for name in names.split()
}
"""The highest priority at the left, the own one, and the highest at the right."""
_PREFIX: dict[str, tuple[int, int]] = {
    ":-": (1200, 1199),
    "?-": (1200, 1199),
    "dynamic": (1150, 1149),
    "discontiguous": (1150, 1149),
    "\\+": (900, 900),
    "-": (200, 200),
    "+": (200, 200),
    "\\": (200, 200),
}
_DEEPEST = 100
# Joined terms are in each other, too: a, b, c is a, (b, c).
_MOST_JOINED = 150
_ARGUMENT = 999
_WHOLE = 1200
_CLOSING = frozenset((")", "]", "}"))


@dataclass(frozen=True, slots=True)
class Clause:
    """Holds a clause: what holds when its body does. Of a fact the body is None; a directive has no head."""

    head: Term | None
    body: Term | None
    place: Place


def read_clauses(text: str) -> tuple[list[Clause], list[RulesSyntaxError]]:
    """Return the clauses of ``text`` that can be read, and an error for each of the others."""
    clauses, errors = [], []
    for found in Tokens(text).clauses():
        if isinstance(found, RulesSyntaxError):
            errors.append(found)
            continue
        try:
            clauses.append(_clause(_ClauseReader(found).read()))
        except RulesSyntaxError as error:
            errors.append(error)
    return clauses, errors


def _clause(term: Term) -> Clause:
    if isinstance(term, Compound) and term.name in (":-", "-->", "?-"):
        if term.name == "-->":
            raise RulesSyntaxError("grammar rules (-->) are not used in rules; write Head :- Body", term.place)
        head = term.arguments[0] if len(term.arguments) == 2 else None
        return Clause(head, term.arguments[-1], term.place if head is None else head.place)
    return Clause(term, None, term.place)


class _ClauseReader:
    """Reads the tokens of one clause as a term, by the priorities of the operators."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._unnamed = count()

    def read(self) -> Term:
        if not self._tokens:
            raise RulesSyntaxError("there is a period without a clause before it", Place(1, 1))
        term = self._term(_WHOLE)
        if (token := self._peek()) is not None:
            self._fail(token, f"{_shown(token)} does not fit here; an operator or a comma is missing before it")
        _check_depth(term)
        return term

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self) -> Token:
        token = self._peek()
        if token is None:
            last = self._tokens[-1]
            self._fail(last, f"the clause ends too early, behind {_shown(last)}")
        self._at += 1
        return token

    @staticmethod
    def _fail(token: Token, text: str) -> NoReturn:
        raise RulesSyntaxError(text, token.place)

    def _is_punctuation(self, text: str) -> bool:
        token = self._peek()
        return token is not None and token.kind == "punctuation" and token.text == text

    def _expect(self, text: str, opened: Token) -> None:
        token = self._peek()
        if token is None or token.kind != "punctuation" or token.text != text:
            where = f"line {opened.place.line}, column {opened.place.column}"
            found = "the clause ends" if token is None else f"there is {_shown(token)}"
            self._fail(
                token or self._tokens[-1], f"{found}, but the {opened.text} of {where} is still open: {text} is missing"
            )
        self._at += 1

    def _term(self, highest: int) -> Term:
        """Read a term whose operator has at most the priority ``highest``."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(self._tokens[min(self._at, len(self._tokens) - 1)], f"more than {_DEEPEST} terms in each other")
        left, priority = self._operand(highest)
        term = self._operators(left, priority, highest)
        self._depth -= 1
        return term

    def _operators(self, left: Term, priority: int, highest: int) -> Term:
        """Read the infix operators behind ``left`` and what is at their right."""
        while (name := self._infix_name()) is not None:
            most_left, own, most_right = _INFIX[name]
            if own > highest or priority > most_left:
                return left
            token = self._take()
            if most_right == own:
                left = self._chain(left, token, name, own)
            else:
                left = Compound(name, (left, self._term(most_right)), token.place)
            priority = own
        return left

    def _chain(self, first: Term, token: Token, name: str, own: int) -> Term:
        """Read ``first op second op third…`` of an operator that groups to the right, without recursion."""
        operands, places = [first], [token.place]
        while True:
            operands.append(self._term(own - 1))
            if self._infix_name() != name:
                break
            places.append(self._take().place)
        if (following := self._infix_name()) is not None and _INFIX[following][1] == own:
            operator = self._take()
            operands.append(Compound(following, (operands.pop(), self._term(own)), operator.place))
        term = operands.pop()
        for place in reversed(places):
            term = Compound(name, (operands.pop(), term), place)
        return term

    def _infix_name(self) -> str | None:
        token = self._peek()
        if token is None or token.kind not in ("name", "punctuation") or token.text not in _INFIX:
            return None
        return token.text

    def _operand(self, highest: int) -> tuple[Term, int]:
        token = self._take()
        if token.kind in ("integer", "float"):
            return Number(token.value, token.place), 0
        if token.kind == "variable":
            name = f"_{next(self._unnamed)}_" if token.text == "_" else token.text
            return Variable(name, token.place), 0
        if token.kind == "punctuation":
            return self._bracketed(token), 0
        following = self._peek()
        if following is not None and following.follows and following.kind == "punctuation" and following.text == "(":
            return self._compound(token), 0
        if token.kind == "name":
            return self._named(token, following, highest)
        return Atom(token.text, token.place), 0

    def _bracketed(self, token: Token) -> Term:
        if token.text == "(":
            term = self._term(_WHOLE)
            self._expect(")", token)
            return term
        if token.text == "[":
            return self._list(token)
        if token.text == "{":
            self._fail(token, "braces are not used in rules")
        self._fail(token, f"{_shown(token)} does not fit here")

    def _list(self, token: Token) -> Term:
        if self._is_punctuation("]"):
            self._take()
            return Atom("[]", token.place)
        items, tail = [self._term(_ARGUMENT)], None
        while self._is_punctuation(","):
            self._take()
            items.append(self._term(_ARGUMENT))
        if self._is_punctuation("|"):
            self._take()
            tail = self._term(_ARGUMENT)
        self._expect("]", token)
        if isinstance(tail, List):
            return List((*items, *tail.items), tail.tail, token.place)
        return List(tuple(items), None if isinstance(tail, Atom) and tail.name == "[]" else tail, token.place)

    def _compound(self, token: Token) -> Term:
        opened = self._take()
        arguments = [self._term(_ARGUMENT)]
        while self._is_punctuation(","):
            self._take()
            arguments.append(self._term(_ARGUMENT))
        self._expect(")", opened)
        return Compound(token.text, tuple(arguments), token.place)

    def _named(self, token: Token, following: Token | None, highest: int) -> tuple[Term, int]:
        """Read a name: an atom, the sign of a number, or a prefix operator with its operand."""
        if token.text == "-" and following is not None and following.kind in ("integer", "float") and following.follows:
            self._take()
            return Number(-following.value, token.place), 0
        if token.text not in _PREFIX or following is None or self._ends_operand(following):
            return Atom(token.text, token.place), 0
        own, most = _PREFIX[token.text]
        if own > highest:
            own, most = _ARGUMENT, _ARGUMENT
        return Compound(token.text, (self._term(min(most, highest)),), token.place), own

    def _ends_operand(self, token: Token) -> bool:
        """Return whether ``token``, behind a prefix operator, shows that the operator is an atom here."""
        if token.kind == "punctuation":
            return token.text in _CLOSING or token.text in (",", "|")
        return token.kind == "name" and token.text in _INFIX and token.text not in _PREFIX


def _check_depth(term: Term) -> None:
    """Raise RulesSyntaxError when so many terms are in each other that those who go through them would not end well."""
    waiting = [(term, 1)]
    while waiting:
        one, depth = waiting.pop()
        if depth > _MOST_JOINED:
            why = f"more than {_MOST_JOINED} terms joined or in each other; use a list, or several clauses"
            raise RulesSyntaxError(why, one.place)
        waiting.extend((part, depth + 1) for part in parts(one))


def _shown(token: Token) -> str:
    return f"{token.text[:40]!r}" if token.kind in ("quoted", "text") else token.text[:40]
