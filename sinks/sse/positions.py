"""Writes and reads a client's position, the next offset of every partition, as the ``id:`` of an event.

The text names offsets of the topic, so any SSE process can continue where another one stopped.
"""

from __future__ import annotations

import re
from typing import Literal
from zlib import crc32

from schemas.errors import StandgaleError

Position = tuple[int, ...]
"""The next offset to read, by partition number."""

Origin = Literal["this", "former", "unknown"]
"""Whose position it is: of the present topic, of a deleted one with the same name, or unknown."""

MAX_PARTITIONS = 10_000
"""The most partitions of a topic; limits an id before the topic was read."""

# A dot is not part of a hexadecimal number, and neither character needs escaping in a URL. 15 digits are enough for
# every offset, and keep a hostile id from becoming a very large integer.
_TEXT = re.compile(r"([0-9a-f]{1,15}(?:\.[0-9a-f]{1,15})*)(?:-([0-9a-f]{8}))?", re.ASCII)


class PositionError(StandgaleError):
    """A Last-Event-ID is not of this stream, so the client cannot resume with it."""

    code = "INVALID_LAST_EVENT_ID"


def mark_of(incarnation: str) -> str:
    """Return the mark in ids of this incarnation of the topic: eight hexadecimal digits, or "" when it is unknown."""
    return format(crc32(incarnation.encode()), "08x") if incarnation else ""


def encode_position(position: Position, mark: str = "") -> str:
    """Return ``position`` as text: hexadecimal offsets joined by dots, and the topic's ``mark``.

    For example ``1f.0.a3-9ae0daaf``.
    """
    offsets = ".".join(format(offset, "x") for offset in position)
    return f"{offsets}-{mark}" if mark else offsets


def origin_of(mark: str, current: str) -> Origin:
    """Return whose id has ``mark`` when the topic's mark is ``current``; either may be unknown."""
    if not mark or not current:
        return "unknown"
    return "this" if mark == current else "former"


def decode_position(text: str, partitions: int, current: str = "") -> tuple[Position, str]:
    """Return the position in ``text``, one offset per partition, and its mark ("" in ids of former versions).

    The topic may have more partitions than the id. New ones begin at 0, because the client got none of their events.
    Raises PositionError when ``text`` is not an id of this stream. An id of a former topic, whose mark is not
    ``current``, is valid with any number of partitions.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} is not an id of this stream (hexadecimal offsets joined by dots); "
            "send an id exactly as it was received, or none to start with the next event"
        )
    offsets = tuple(int(part, 16) for part in match[1].split("."))
    mark = match[2] or ""
    if origin_of(mark, current) == "former":
        return (offsets + (0,) * partitions)[:partitions], mark
    if len(offsets) > partitions:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} names {len(offsets)} partitions where the topic has {partitions}; "
            "it comes from a different stream; leave it out to start with the next event"
        )
    return offsets + (0,) * (partitions - len(offsets)), mark


def advanced(position: Position, partition: int, offset: int) -> Position:
    """Return ``position`` after the record at ``offset`` of ``partition``; it never goes back."""
    if offset < position[partition]:
        return position
    return (*position[:partition], offset + 1, *position[partition + 1 :])


def merged(left: Position, right: Position) -> Position:
    """Return the later offset of both, per partition."""
    return tuple(map(max, left, right))


def reaches(left: Position, right: Position) -> bool:
    """Whether ``left`` is at or past ``right`` in every partition."""
    return all(mine >= theirs for mine, theirs in zip(left, right, strict=True))
