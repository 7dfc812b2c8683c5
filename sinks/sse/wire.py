"""The bytes of the stream: how the server-sent events protocol writes events, comments and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

RETRY_MS = 2_000
DETECTIONS_EVENT = "detections"


def event_bytes(name: str, data: bytes, event_id: str) -> bytes:
    """One event with ``data``, which must be free of line breaks."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), data)


def position_bytes(event_id: str, comment: str) -> bytes:
    """A comment, and an id without data: this moves the client's Last-Event-ID and fires nothing in a page.

    It is how a client whose filter lets nothing pass for hours still resumes from now.
    """
    return b": %b\nid: %b\n\n" % (comment.encode(), event_id.encode())


def comment_bytes(comment: str) -> bytes:
    """A comment: keeps proxies from closing a silent connection."""
    return b": %b\n\n" % comment.encode()


def opening_bytes() -> bytes:
    """The first bytes of every stream: how long a client waits before it connects again."""
    return b"retry: %d\n: standgale detections\n\n" % RETRY_MS


def one_line(value: bytes) -> bytes:
    """JSON ``value`` without line breaks; in JSON they can only stand between tokens, where a space does as well."""
    return b" ".join(value.splitlines())


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that can no longer be delivered: offsets ``first`` to ``last`` (both included) of one partition.

    ``retention``: the topic has forgotten them. ``recreated``: the topic is younger than the client's position, so
    that nobody can tell what was between; ``last`` is None then. ``truncated``: the topic has lost its end, and with it
    the events at these offsets; others will take these offsets, and are sent.
    """

    partition: int
    first: int
    last: int | None
    reason: Literal["retention", "recreated", "truncated"]


def gap_bytes(losses: Sequence[Gap], event_id: str) -> bytes:
    """The explicit ``gap`` event that tells a client what it will never see."""
    lost = [
        {"partition": loss.partition, "from": loss.first, "to": loss.last, "reason": loss.reason} for loss in losses
    ]
    return event_bytes("gap", orjson.dumps({"lost": lost}), event_id)


def overflow_bytes(pending: int, event_id: str) -> bytes:
    """The last event of a client that reads too slowly; connecting again with ``event_id`` continues without loss."""
    data = {"pending": pending, "what": "you read too slowly; connect again to go on from here, nothing is lost"}
    return event_bytes("overflow", orjson.dumps(data), event_id)
