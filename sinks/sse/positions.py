"""Where a client is in the topic: the next offset of every partition, as short text for the ``id:`` of an event.

The text names places in the topic, not in a process, so any SSE process can go on where another one stopped.
"""

from __future__ import annotations

import re

from schemas.errors import WindhoverError

Position = tuple[int, ...]
"""The next offset to read, by partition number."""

MAX_PARTITIONS = 10_000
"""The most a topic can have; bounds an id before the topic was seen."""

# A dot cannot stand in a hexadecimal number, and neither character needs escaping in a URL. 15 digits hold every offset
# that a broker will ever reach, and stop a hostile id from becoming a huge integer.
_TEXT = re.compile(r"[0-9a-f]{1,15}(?:\.[0-9a-f]{1,15})*", re.ASCII)


class PositionError(WindhoverError):
    """A Last-Event-ID is none of ours; the client must forget it."""

    code = "INVALID_LAST_EVENT_ID"


def encode_position(position: Position) -> str:
    """``position`` as text: hexadecimal offsets joined by dots, in order of partitions, for example ``1f.0.a3``."""
    return ".".join(format(offset, "x") for offset in position)


def decode_position(text: str, partitions: int) -> Position:
    """The position in ``text``, one offset per partition of the topic, which has ``partitions``.

    A topic may have grown since the id was given out: the new partitions begin at 0, since nothing of them was seen.
    Raises PositionError when ``text`` is not an id of this stream.
    """
    if _TEXT.fullmatch(text) is None:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} is no id of this stream (hexadecimal offsets joined by dots); "
            "send an id exactly as it was received, or none to start with the next event"
        )
    offsets = tuple(int(part, 16) for part in text.split("."))
    if len(offsets) > partitions:
        raise PositionError(
            f"Last-Event-ID {text[:60]!r} names {len(offsets)} partitions where the topic has {partitions}; "
            "it comes from another stream, leave it out to start with the next event"
        )
    return offsets + (0,) * (partitions - len(offsets))


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
