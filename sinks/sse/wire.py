"""Writes events, comments and positions as bytes of the server-sent events protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

RETRY_MS = 2_000
DETECTIONS_EVENT = "detections"


def event_bytes(name: str, data: bytes, event_id: str) -> bytes:
    """Return one event with ``data``, which must have no line breaks."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), data)


def position_bytes(event_id: str, comment: str) -> bytes:
    """Return a comment and an id without data, which changes the client's Last-Event-ID without an event in a page.

    So a client whose filter drops all events for hours still resumes at the present position.
    """
    return b": %b\nid: %b\n\n" % (comment.encode(), event_id.encode())


def comment_bytes(comment: str) -> bytes:
    """Return a comment, which keeps proxies from closing a silent connection."""
    return b": %b\n\n" % comment.encode()


def opening_bytes() -> bytes:
    """Return the first bytes of every stream, with the time that a client waits before it connects again."""
    return b"retry: %d\n: standgale detections\n\n" % RETRY_MS


def one_line(value: bytes) -> bytes:
    """Return JSON ``value`` without line breaks, which are only between tokens and become spaces."""
    return b" ".join(value.splitlines())


@dataclass(frozen=True, slots=True)
class Gap:
    """Describes events of one partition that the client will never receive."""

    partition: int
    first: int
    """The first missing offset"""
    last: int | None
    """The last missing offset; None when it is unknown (recreated)"""
    reason: Literal["retention", "recreated", "truncated"]
    """Why: retention deleted them; the topic was deleted and created again; or the topic lost its end (truncated)
    with these events, and new events at the same offsets are sent"""


def gap_bytes(losses: Sequence[Gap], event_id: str) -> bytes:
    """Return the ``gap`` event, which names the events that a client will never receive."""
    lost = [
        {"partition": loss.partition, "from": loss.first, "to": loss.last, "reason": loss.reason} for loss in losses
    ]
    return event_bytes("gap", orjson.dumps({"lost": lost}), event_id)


def overflow_bytes(pending: int, event_id: str) -> bytes:
    """Return the last event of a client that reads too slowly; it continues without loss from ``event_id``."""
    data = {"pending": pending, "what": "you read too slowly; connect again to continue from here, nothing is lost"}
    return event_bytes("overflow", orjson.dumps(data), event_id)


def reset_bytes(reason: str, event_id: str) -> bytes:
    """Return the event of a client whose Last-Event-ID is none of this stream; it continues from ``event_id``."""
    data = {"reason": reason, "what": "the stream continues with the next event; what came before it may be missing"}
    return event_bytes("reset", orjson.dumps(data), event_id)
