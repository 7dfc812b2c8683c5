"""Reads and hashes a request's body, within a limit of size and time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256

from starlette.types import Receive

from ingest.gateway.errors import UploadIncompleteError, UploadTimeoutError, ValidationFailedError
from ingest.images.check import FileTooLargeError


@dataclass(frozen=True, slots=True)
class Body:
    """Holds a complete body and its SHA-256 (hex)."""

    data: bytes
    sha256: str


def declared_length(headers: dict[bytes, bytes], limit: int) -> int:
    """Return the most bytes that the body can have: its Content-Length, or ``limit`` without one.

    Raises FileTooLargeError, before the body is read, when it is more than ``limit``.
    """
    text = headers.get(b"content-length")
    if text is None:
        return limit
    if not text.isdigit():
        raise ValidationFailedError(f"Content-Length is {text!r}; it must be a number of bytes", field="Content-Length")
    if len(text) > 15 or int(text) > limit:
        raise too_large(text.decode(), limit)
    return int(text)


def too_large(size: str, limit: int) -> FileTooLargeError:
    """Return the error for a body of ``size`` bytes (a number, or text)."""
    return FileTooLargeError(f"the upload has {size} bytes; at most {limit} are accepted (gateway.max_image_bytes)")


async def read_body(receive: Receive, limit: int, timeout_s: float) -> Body:
    """Read the whole body.

    Raises FileTooLargeError as soon as more than ``limit`` bytes were read, UploadTimeoutError when it is not complete
    after ``timeout_s`` (a slow client must not keep a slot), UploadIncompleteError when the client disconnected.
    """
    chunks: list[bytes] = []
    total = 0
    # Hashing a chunk blocks the event loop for tens of microseconds; a thread per upload would cost more.
    digest = sha256()
    try:
        async with asyncio.timeout(timeout_s):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise UploadIncompleteError(f"the client disconnected after {total} bytes")
                chunk: bytes = message.get("body", b"")
                more = message.get("more_body", False)
                total += len(chunk)
                if total > limit:
                    raise too_large(f"more than {limit}", limit)
                digest.update(chunk)
                chunks.append(chunk)
    except TimeoutError as error:
        raise UploadTimeoutError(
            f"only {total} bytes were received within {timeout_s:g} s (gateway.body_timeout_s)",
            details="Send the frame again, smaller or over a faster connection.",
        ) from error
    return Body(b"".join(chunks), digest.hexdigest())
