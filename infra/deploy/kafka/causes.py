"""Finds in the output of Kafka, Maven or another program why it failed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_TAIL_LINES = 4
_TAKEN = re.compile(r"bind to (?P<address>\S+): Address already in use")
_FULL = "No space left on device"
_ROOM_BYTES = 1_000_000
_ERROR = re.compile(r"^\S+ (ERROR|FATAL) |^\[ERROR\]|^Exception in thread ")
_NEW_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d")
_STACK = re.compile(r"^\s+(at |\.\.\. \d+ )")


def explain(output: str, home: Path) -> str:
    """Return why the broker of ``home`` failed and what to do, or the most useful lines of ``output``."""
    taken = _TAKEN.search(output)
    if taken is not None:
        return (
            f"{taken['address']} is in use by another program; end that program and start Kafka again, "
            "or choose a different --home, which gets other ports"
        )
    if _FULL in output or _is_full(home):
        return f"the disk of {home} is full; free some space and start Kafka again"
    return find_cause(output)


def find_cause(output: str) -> str:
    """Return the lines of ``output`` with the cause: the first error and what it was caused by; else the last."""
    lines = [line for line in output.strip().splitlines() if not _STACK.match(line)]
    for number, line in enumerate(lines):
        if _ERROR.match(line):
            return " | ".join(part.strip() for part in (line, *_deepest_cause(lines[number + 1 :])))
    return " | ".join(lines[-_TAIL_LINES:])


def _deepest_cause(lines: Sequence[str]) -> list[str]:
    """Return the last line that belongs to the error before ``lines``: Java prints the deepest cause last."""
    last: list[str] = []
    for line in lines:
        if _NEW_ENTRY.match(line) or _ERROR.match(line):
            break
        last = [line]
    return last


def _is_full(home: Path) -> bool:
    """Return whether the disk has no room: then the log, which is on it, does not say so."""
    with suppress(OSError):
        return shutil.disk_usage(home).free < _ROOM_BYTES
    return False
