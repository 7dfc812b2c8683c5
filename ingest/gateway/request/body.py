"""Reads a request's body, within a limit of size and time, and in turn with other bodies of its device."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from starlette.types import Receive

from infra.time_limits import time_limit
from ingest.acceptance.errors import ApiError, ValidationFailedError
from ingest.gateway.errors import UploadIncompleteError, UploadTimeoutError
from ingest.images.check import FileTooLargeError
from schemas.errors import StandgaleError

# While several devices send, one may read a piece (at most 256 kB, as the event loop reads) in this time on average.
_PIECE_S = 0.002
_FREE_PIECES = 32
_ALONE_AFTER_S = 1.0
_MOST_PACED = 10_000
_SHOWN_DIGITS = 30


class BodyTooLargeError(ApiError):
    """A body that is no image has more bytes than the limit."""

    code = "FILE_TOO_LARGE"


@dataclass(frozen=True, slots=True)
class BodyLimit:
    """Says how many bytes a body may have, and what the error for a larger one says."""

    most_bytes: int
    reason: str
    """What the limit follows from: a setting"""
    field: str | None = None
    """The parameter that is too large"""
    details: str = "Send less; the limit is a setting of the gateway."

    def exceeded(self, size: str) -> StandgaleError:
        """Return the error for a body of ``size`` bytes (a number, or text)."""
        text = f"the upload has {size} bytes; at most {self.most_bytes} are accepted ({self.reason})"
        return BodyTooLargeError(text, details=self.details, field=self.field)


@dataclass(frozen=True, slots=True)
class ImageLimit(BodyLimit):
    """Limits a body that is an image, or a form with one image of at most ``image_bytes``."""

    image_bytes: int = 0

    @classmethod
    def of_image(cls, image_bytes: int) -> ImageLimit:
        """Return the limit of a body that is an image of at most ``image_bytes``."""
        return cls(image_bytes, "gateway.max_image_bytes", image_bytes=image_bytes)

    @classmethod
    def of_form(cls, form_bytes: int, image_bytes: int) -> ImageLimit:
        """Return the limit of a form, which has an image of at most ``image_bytes``, fields, and headers of parts."""
        return cls(form_bytes, "gateway.max_image_bytes", image_bytes=image_bytes)

    def exceeded(self, size: str) -> StandgaleError:
        """Return the error, which names the limit of the image, because it is the one that can be set."""
        around = self.most_bytes - self.image_bytes
        other = f", and {around} for everything else in the form" if around else ""
        return FileTooLargeError(
            f"the upload has {size} bytes; at most {self.image_bytes} are accepted for the image ({self.reason}){other}"
        )


class DeviceTurns:
    """Lets each device read one piece of a body in each round of the event loop.

    A device that sends many large bodies at the same time would otherwise fill each round with its pieces, and every
    step of another device's upload would wait for all of them. While several devices send, each also has a rate (some
    130 MB/s), so that none fills all rounds; a device that is alone has none.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._due: dict[str, float] = {}
        self._newest = ""
        self._alone_since = 0.0

    async def wait(self, device_id: str) -> None:
        """Wait until ``device_id`` may read its next piece."""
        loop = asyncio.get_running_loop()
        delay_s = self._delay_s(device_id, loop.time())
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        waiting = self._waiting.get(device_id)
        if waiting is None:
            self._waiting[device_id] = deque()
            loop.call_soon(self._next, device_id)
            return
        turn = loop.create_future()
        waiting.append(turn)
        await turn

    def _delay_s(self, device_id: str, now: float) -> float:
        """Return how long the device must wait because of its rate; a burst of pieces is free."""
        if device_id != self._newest:
            self._newest, self._alone_since = device_id, now
        elif now - self._alone_since > _ALONE_AFTER_S:
            self._due.clear()
            return 0.0
        if len(self._due) > _MOST_PACED:
            self._due.clear()
        due = max(self._due.get(device_id, 0.0), now - _FREE_PIECES * _PIECE_S) + _PIECE_S
        self._due[device_id] = due
        return due - now

    def _next(self, device_id: str) -> None:
        waiting = self._waiting[device_id]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next, device_id)
                return
        del self._waiting[device_id]


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

    def __init__(self, receive: Receive, limit: BodyLimit, turns: DeviceTurns, device_id: str) -> None:
        self.received = 0
        """How many bytes were received"""
        self._receive = receive
        self._limit = limit
        self._turns = turns
        self._device_id = device_id
        self._more = True

    async def next_piece(self) -> bytes | None:
        """Return the next piece, which may be empty, or None at the end.

        Raises the error of the limit as soon as more was received, and UploadIncompleteError when the client
        disconnected.
        """
        if not self._more:
            return None
        await self._turns.wait(self._device_id)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise UploadIncompleteError(f"the client disconnected after {self.received} bytes")
        piece: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        self.received += len(piece)
        if self.received > self._limit.most_bytes:
            raise self._limit.exceeded(f"more than {self._limit.most_bytes}")
        return piece


def too_slow(pieces: BodyPieces, timeout_s: float) -> UploadTimeoutError:
    """Return the error for a body that was not received within ``timeout_s``: a slow client must not keep a slot."""
    return UploadTimeoutError(
        f"only {pieces.received} bytes were received within {timeout_s:g} s (gateway.body_timeout_s)",
        details="Send the frame again, smaller or over a faster connection.",
    )


async def read_body(receive: Receive, limit: BodyLimit, timeout_s: float, turns: DeviceTurns, device_id: str) -> bytes:
    """Read the whole body.

    Raises the error of ``limit`` as soon as more bytes were read, UploadTimeoutError when it is not complete after
    ``timeout_s``, UploadIncompleteError when the client disconnected.
    """
    pieces = BodyPieces(receive, limit, turns, device_id)
    chunks: list[bytes] = []
    try:
        with time_limit(timeout_s):
            while (piece := await pieces.next_piece()) is not None:
                chunks.append(piece)
    except TimeoutError as error:
        raise too_slow(pieces, timeout_s) from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
