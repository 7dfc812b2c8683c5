"""Reads a request's body, within a limit of size and time, and in turn with other bodies of its client."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Receive

from infra.http_api.errors.api_errors import ApiError, UploadIncompleteError, UploadTimeoutError, ValidationFailedError
from infra.http_api.limits.slots import Slot
from infra.http_api.limits.turns import Turns
from infra.time_limits import time_limit
from schemas.errors import StandgaleError

_SHOWN_DIGITS = 30


class BodyTooLargeError(ApiError):
    """A body has more bytes than the limit."""

    code = "FILE_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Says how many bytes a body may have, and what the error for a larger one says."""

    most_bytes: int
    reason: str
    """What the limit follows from: a setting"""
    field: str | None = None
    """The parameter that is too large"""
    details: str = "Send less; the limit is a setting of the service."

    def exceeded(self, size: str) -> StandgaleError:
        """Return the error for a body of ``size`` bytes (a number, or text)."""
        text = f"the upload has {size} bytes; at most {self.most_bytes} are accepted ({self.reason})"
        return BodyTooLargeError(text, details=self.details, field=self.field)


@dataclass(frozen=True, slots=True)
class BodyTimeLimit:
    """Says within how many seconds a body is received: a slow client must not keep its slot for ever."""

    seconds: float
    setting: str
    """The name of the setting that it comes from"""
    details: str = "Send it again, smaller or over a faster connection."

    def exceeded(self, received_bytes: int) -> UploadTimeoutError:
        """Return the error for a body of which only ``received_bytes`` were received in time."""
        return UploadTimeoutError(
            f"only {received_bytes} bytes were received within {self.seconds:g} s ({self.setting})",
            details=self.details,
        )


def declared_length(headers: dict[bytes, bytes], limit: BodyLimit) -> int:
    """Return the most bytes that the body can have: its Content-Length, or those of ``limit`` without one.

    Raises the error of ``limit``, before the body is read, when it is more.
    """
    text = headers.get(b"content-length")
    if text is None:
        return limit.most_bytes
    if not text.isdigit():
        raise ValidationFailedError(f"Content-Length is {text!r}; it must be a number of bytes", field="Content-Length")
    if len(text) > 15 or int(text) > limit.most_bytes:
        raise limit.exceeded(text.decode() if len(text) <= _SHOWN_DIGITS else f"a number of {len(text)} digits of")
    return int(text)


class BodyPieces:
    """Receives a body piece by piece, up to its limit, in turn with other bodies."""

    def __init__(self, receive: Receive, limit: BodyLimit, turns: Turns, client: str, slot: Slot | None = None) -> None:
        """``slot``: that of the body, which is told how much was received."""
        self.received = 0
        """How many bytes were received"""
        self._slot = slot
        self._receive = receive
        self._limit = limit
        self._turns = turns
        self._client = client
        self._more = True

    async def next_piece(self) -> bytes | None:
        """Return the next piece, which may be empty, or None at the end.

        Raises the error of the limit as soon as more was received, and UploadIncompleteError when the client
        disconnected.
        """
        if not self._more:
            return None
        await self._turns.wait(self._client)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise UploadIncompleteError(f"the client disconnected after {self.received} bytes")
        piece: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        self.received += len(piece)
        if self._slot is not None:
            self._slot.received_bytes = self.received
        if self.received > self._limit.most_bytes:
            raise self._limit.exceeded(f"more than {self._limit.most_bytes}")
        return piece


async def read_body(receive: Receive, limit: BodyLimit, time: BodyTimeLimit, turns: Turns, client: str) -> bytes:
    """Read the whole body.

    Raises the error of ``limit`` as soon as more bytes were read, UploadTimeoutError when it is not complete within
    ``time``, UploadIncompleteError when the client disconnected.
    """
    pieces = BodyPieces(receive, limit, turns, client)
    chunks: list[bytes] = []
    try:
        with time_limit(time.seconds):
            while (piece := await pieces.next_piece()) is not None:
                chunks.append(piece)
    except TimeoutError as error:
        raise time.exceeded(pieces.received) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
