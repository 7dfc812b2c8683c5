"""Reads what the response of a server says, within limits: its body, and how long it asks to wait."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from aiohttp import ClientResponse

from schemas.timestamps import utc_now

_MOST_DIGITS = 12


async def read_bounded(response: ClientResponse, most_bytes: int) -> bytes:
    """Return the body; of one that is longer than ``most_bytes`` only that many bytes."""
    data = bytearray()
    # One read returns what has arrived, which may be less than there is.
    while len(data) < most_bytes and (more := await response.content.read(most_bytes - len(data))):
        data += more
    return bytes(data)


def retry_after_s(text: str) -> float | None:
    """Return how many seconds a header ``Retry-After`` asks to wait: a number, or a date; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        # Callers limit how long they wait; a number of thousands of digits is not converted.
        return float(text[:_MOST_DIGITS])
    try:
        asked = parsedate_to_datetime(text)
        # Without a zone it is UTC, as dates of HTTP are.
        asked = asked.replace(tzinfo=UTC) if asked.tzinfo is None else asked.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (asked - utc_now()).total_seconds())
