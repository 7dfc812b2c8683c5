"""Reads the text of a query: comparisons of fields with values, joined by and, or, not and parentheses.

``device = cam-1 and (label in (bird, 'small boat') or confidence >= 0.8) and time between 2026-01-01 and 2026-02-01``.
Nothing of it becomes part of an SQL text: see :mod:`console.datasets.query.statement`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from console.datasets.errors import DatasetQueryError
from console.datasets.query.fields import FIELDS, Value, read_value
from infra.texts import shortened

MOST_CHARACTERS = 20_000
MOST_COMPARISONS = 200
MOST_VALUES = 1_000
MOST_DEPTH = 30

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
_WORDS = frozenset({"and", "or", "not", "in", "between"})
_TOKEN = re.compile(
    r"""(?P<sign><=|>=|!=|<>|==|[=<>(),])
    |'(?P<single>(?:[^']|'')*)'
    |"(?P<double>(?:[^"]|"")*)"
    |(?P<word>[^\s<>=!(),'"]+)""",
    re.VERBOSE,
)
_SIGNS: dict[str, Operator] = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares a field with a value, or with several (in)."""

    field: str
    operator: Operator
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Is true where its part is false."""

    part: Query


@dataclass(frozen=True, slots=True)
class All:
    """Is true where all of its parts are; one without parts always is."""

    parts: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """Is true where one of its parts is."""

    parts: tuple[Query, ...]


Query: TypeAlias = Comparison | Not | All | Any


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["sign", "text", "word", "end"]
    text: str
    place: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.lower() == word


def parse_query(text: str) -> Query:
    """Return the query in ``text``. Raises DatasetQueryError, which names the place."""
    if len(text) > MOST_CHARACTERS:
        raise DatasetQueryError(f"--where has {len(text):,} characters; it takes at most {MOST_CHARACTERS:,}")
    if not text.strip():
        raise DatasetQueryError(f'--where is empty; it takes a query such as "label = bird". Fields: {_fields()}')
    return _Parser(list(_tokens(text))).query()


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while True:
        place += len(text[place:]) - len(text[place:].lstrip())
        if place == len(text):
            yield _Token("end", "", place)
            return
        match = _TOKEN.match(text, place)
        if match is None:
            closed = text[place] not in "'\""
            why = "cannot be read" if closed else "begins a text that has no end"
            raise _error(_Token("word", text[place:], place), why)
        if match["sign"] is not None:
            yield _Token("sign", match["sign"], place)
        elif match["word"] is not None:
            yield _Token("word", match["word"], place)
        else:
            quote = "'" if match["single"] is not None else '"'
            yield _Token("text", (match["single"] or match["double"] or "").replace(quote * 2, quote), place)
        place = match.end()


def _error(token: _Token, why: str) -> DatasetQueryError:
    what = "at its end" if token.kind == "end" else f"at character {token.place + 1}, {shortened(token.text, 60)!r}"
    return DatasetQueryError(f"--where {what}: {why}")


def _fields() -> str:
    return ", ".join(FIELDS)


class _Parser:
    """Reads tokens from left to right; "and" binds more strongly than "or"."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._comparisons = 0
        self._values = 0

    def query(self) -> Query:
        found = self._either(0)
        if self._token.kind != "end":
            raise _error(self._token, "expected and, or, or the end")
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        if token.kind != "end":
            self._next += 1
        return token

    def _takes_sign(self, sign: str) -> bool:
        if self._token.kind == "sign" and self._token.text == sign:
            self._next += 1
            return True
        return False

    def _takes_word(self, word: str) -> bool:
        if self._token.is_word(word):
            self._next += 1
            return True
        return False

    def _either(self, depth: int) -> Query:
        parts = [self._both(depth)]
        while self._takes_word("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self, depth: int) -> Query:
        parts = [self._one(depth)]
        while self._takes_word("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Query:
        if depth > MOST_DEPTH:
            raise _error(self._token, f"more than {MOST_DEPTH} parentheses or nots are inside each other")
        if self._takes_word("not"):
            return Not(self._one(depth + 1))
        if self._takes_sign("("):
            found = self._either(depth + 1)
            if not self._takes_sign(")"):
                raise _error(self._token, "expected and, or, or )")
            return found
        return self._comparison()

    def _comparison(self) -> Query:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise _error(self._token, f"a query has at most {MOST_COMPARISONS} comparisons")
        name = self._take()
        field = name.text.lower()
        if name.kind != "word" or field not in FIELDS:
            raise _error(name, f"expected a field: {_fields()}")
        negated = self._takes_word("not")
        if self._takes_word("in"):
            found: Query = Comparison(field, "in", self._list(field))
        elif self._takes_word("between"):
            low = self._value(field)
            if not self._takes_word("and"):
                raise _error(self._token, "expected and: between LOW and HIGH")
            found = All((self._ordered(name, ">=", low), self._ordered(name, "<=", self._value(field))))
        elif negated:
            raise _error(self._token, "expected in or between after not")
        else:
            sign = self._take()
            operator = _SIGNS.get(sign.text) if sign.kind == "sign" else None
            if operator is None:
                raise _error(sign, f"expected one of {' '.join(('=', '!=', '<', '<=', '>', '>='))}, in or between")
            value = self._value(field)
            return (
                Comparison(field, operator, (value,))
                if operator in ("=", "!=")
                else self._ordered(name, operator, value)
            )
        return Not(found) if negated else found

    def _ordered(self, name: _Token, operator: Operator, value: Value) -> Query:
        field = name.text.lower()
        if not FIELDS[field].is_ordered:
            raise _error(name, f"{field} takes = , != and in only")
        return Comparison(field, operator, (value,))

    def _list(self, field: str) -> tuple[Value, ...]:
        if not self._takes_sign("("):
            raise _error(self._token, "expected ( after in")
        values = [self._value(field)]
        while self._takes_sign(","):
            values.append(self._value(field))
        if not self._takes_sign(")"):
            raise _error(self._token, "expected , or )")
        return tuple(values)

    def _value(self, field: str) -> Value:
        self._values += 1
        if self._values > MOST_VALUES:
            raise _error(self._token, f"a query has at most {MOST_VALUES} values")
        token = self._take()
        if token.kind not in ("word", "text") or (token.kind == "word" and token.text.lower() in _WORDS):
            raise _error(token, f"expected {FIELDS[field].takes}")
        try:
            return read_value(field, token.text)
        except ValueError as error:
            raise _error(token, f"{field} takes {FIELDS[field].takes}{f' ({error})' if str(error) else ''}") from None
