"""Prepares the text of an error for a terminal: what a user has given is not repeated at full length."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from infra.sections import PREFIX
from infra.texts import LONGEST_VALUE, shortened

_LONGEST_LINE = 2_000
_MOST_LINES = 60


def readable(text: str, given: Iterable[str]) -> str:
    """Return the error ``text`` with each long value of ``given`` shortened, and with a bounded number of characters.

    Long lines lose their middle: what is wrong comes first, and what to do comes last.
    """
    for value in sorted((one for one in given if len(one) > LONGEST_VALUE), key=len, reverse=True):
        # As it is, and as Python quotes it.
        for written in (value, repr(value)[1:-1]):
            text = text.replace(written, shortened(written))
    lines = text.splitlines()
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"… and {len(lines) - _MOST_LINES:,} more lines"]
    return "\n".join(shortened(line, _LONGEST_LINE) for line in lines)


def given_values(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield what a user has given: ``arguments`` of the command line, with and without the option, and the settings."""
    for argument in arguments:
        yield argument
        if argument.startswith("-"):
            yield argument.partition("=")[2]
    for name, value in environ.items():
        if name.startswith(PREFIX):
            yield value
