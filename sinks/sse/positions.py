"""Where a client is in the topic: the next offset of every partition, as short text for the ``id:`` of an event.

The text names places in the topic, not in a process, so any SSE process can go on where another one stopped.
"""

from __future__ import annotations

import re
from typing import Literal
from zlib import crc32

from schemas.errors import StandgaleError

Position = tuple[int, ...]
"""The next offset to read, by partition number."""

Origin = Literal["this", "former", "unknown"]
"""Of which topic a position is: of the one there is, of one of this name that was deleted, or it does not say."""

MAX_PARTITIONS = 10_000
"""The most a topic can have; bounds an id before the topic was seen."""

# A dot cannot stand in a hexadecimal number, and neither character needs escaping in a URL. 15 digits hold every offset
# that a broker will ever reach, and stop a hostile id from becoming a huge integer.
_TEXT = re.compile(r"([0-9a-f]{1,15}(?:\.[0-9a-f]{1,15})*)(?:-([0-9a-f]{8}))?", re.ASCII)


class PositionError(StandgaleError):
    """A Last-Event-ID is none of ours; the client must forget it."""

    code = "INVALID_LAST_EVENT_ID"


def mark_of(incarnation: str) -> str:
    """What marks the ids of this incarnation of the topic: eight hexadecimal digits; empty when it is not known."""
    return format(crc32(incarnation.encode()), "08x") if incarnation else ""


def encode_position(position: Position, mark: str = "") -> str:
    """``position`` as text: hexadecimal offsets joined by dots, in order of partitions, and the topic's ``mark``.

    For example ``1f.0.a3-9ae0daaf``.
    """
    offsets = ".".join(format(offset, "x") for offset in position)
    return f"{offsets}-{mark}" if mark else offsets


def origin_of(mark: str, current: str) -> Origin:
    """Of which topic an id with ``mark`` is, when the topic's own is ``current``; either may be unknown."""
    if not mark or not current:
        return "unknown"
    return "this" if mark == current else "former"


def decode_position(text: str, partitions: int, current: str = "") -> tuple[Position, str]:
    """The position in ``text``, one offset per partition of the topic, and its mark ("" in ids of former versions).

    A topic may have grown since the id was given out: the new partitions begin at 0, since nothing of them was seen.
    Raises PositionError when ``text`` is not an id of this stream; one of a topic that was made again since (whose mark
    is not ``current``) is one, whatever partitions that had.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} is no id of this stream (hexadecimal offsets joined by dots); "
            "send an id exactly as it was received, or none to start with the next event"
        )
    offsets = tuple(int(part, 16) for part in match[1].split("."))
    mark = match[2] or ""
    if origin_of(mark, current) == "former":
        return (offsets + (0,) * partitions)[:partitions], mark
    if len(offsets) > partitions:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} names {len(offsets)} partitions where the topic has {partitions}; "
            "it comes from another stream, leave it out to start with the next event"
        )
    return offsets + (0,) * (partitions - len(offsets)), mark


def advanced(position: Position, partition: int, offset: int) -> Position:
    """``position`` after the record at ``offset`` of ``partition``; never goes back."""
    if offset < position[partition]:
        return position
    return (*position[:partition], offset + 1, *position[partition + 1 :])


def merged(left: Position, right: Position) -> Position:
    """The later of both, per partition."""
    return tuple(map(max, left, right))


def reaches(left: Position, right: Position) -> bool:
    """Whether ``left`` is at or past ``right`` in every partition."""
    return all(mine >= theirs for mine, theirs in zip(left, right, strict=True))
