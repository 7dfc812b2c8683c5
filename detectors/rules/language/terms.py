"""Defines the terms of Prolog, each with its place in the file, and writes them so that every engine reads the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Names a place in a rules file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable; ``_`` has a different name at each of its places."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Atom:
    """A name or a quoted text."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Number:
    """An integer or a finite float."""

    value: int | float
    place: Place


@dataclass(frozen=True, slots=True)
class Compound:
    """A name with arguments, also of operators: ``A < B`` is ``<`` with two."""

    name: str
    arguments: tuple[Term, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class List:
    """A list that is not empty, and what follows its last item: None for the empty list."""

    items: tuple[Term, ...]
    tail: Term | None
    place: Place


Term: TypeAlias = Variable | Atom | Number | Compound | List


def signature(term: Term) -> tuple[str, int] | None:
    """Return name and number of arguments of an atom or compound; None for anything else."""
    if isinstance(term, Atom):
        return term.name, 0
    return (term.name, len(term.arguments)) if isinstance(term, Compound) else None


def parts(term: Term) -> tuple[Term, ...]:
    """Return the terms directly in ``term``."""
    if isinstance(term, Compound):
        return term.arguments
    if isinstance(term, List):
        return term.items if term.tail is None else (*term.items, term.tail)
    return ()


def walk(term: Term) -> Iterator[Term]:
    """Yield ``term`` and all terms in it, in the order of the text."""
    waiting = [term]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(reversed(parts(one)))


def write_term(term: Term) -> str:
    """Return ``term`` as text without operators, every atom quoted."""
    if isinstance(term, Variable):
        return term.name
    if isinstance(term, Number):
        return write_number(term.value)
    if isinstance(term, Atom):
        return "[]" if term.name == "[]" else write_atom(term.name)
    if isinstance(term, List):
        tail = "" if term.tail is None else f"|{write_term(term.tail)}"
        return f"[{','.join(map(write_term, term.items))}{tail}]"
    return f"{write_atom(term.name)}({','.join(map(write_term, term.arguments))})"


def write_atom(text: str) -> str:
    """Return ``text`` as a quoted atom; whatever it contains, nothing of it is read as Prolog.

    Characters that no engine keeps (the null character, lone surrogates) become U+FFFD.
    """
    return f"'{''.join(map(_written, text))}'"


def _written(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character == "\x00" or "\ud800" <= character <= "\udfff":
        return "\ufffd"
    if character == " " or (character.isprintable() and character != "\ufeff"):
        return character
    return f"\\x{ord(character):x}\\"


def write_number(value: float) -> str:
    """Return ``value``, an integer or a finite float, as Prolog reads it; a negative one in parentheses."""
    if isinstance(value, int):
        text = str(value)
    elif math.isfinite(value):
        digits, exponent, power = repr(value).partition("e")
        text = f"{digits if '.' in digits else f'{digits}.0'}{exponent}{power}"
    else:
        raise ValueError(f"{value} is no number of Prolog")
    return f"({text})" if value < 0 else text
