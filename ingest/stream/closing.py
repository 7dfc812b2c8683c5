"""Defines the codes with which a stream is closed; docs/stream.md has the table for clients."""

from __future__ import annotations

from enum import IntEnum

from infra.process.websocket_flow import MAX_REASON_BYTES


class CloseCode(IntEnum):
    """Says why a stream ends; from 4400 on they are our own, each like the HTTP status of the same last digits."""

    FINISHED = 1000
    INTERNAL_ERROR = 1011
    RESTARTING = 1012
    BUSY = 1013
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    TOO_SLOW = 4408
    TAKEN_OVER = 4409
    TOO_MANY = 4429


KNOWN_CODES = frozenset((1001, 1002, 1005, 1006, 1007, 1008, 1009, *CloseCode))
"""Those that the metrics tell apart."""


class StreamEnd(Exception):  # noqa: N818 (it ends a stream, also when nothing is wrong)
    """Ends a stream, once the frames that were received before it are answered."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
