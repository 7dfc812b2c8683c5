"""Lets an app write a piece of a response at once, past the tasks and layers between it and the connection.

An app that sends the same bytes to thousands of clients would otherwise need one turn of a task for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

WritePiece = Callable[[bytes], bool]
"""Writes a piece that :func:`framed_piece` made, and returns True; returns False, and writes nothing, when the client
has not taken what was written before, or the response has not begun or has ended. Then the app sends as usual."""

_EXTENSION = "standgale.write_piece"


def direct_writes(write: WritePiece) -> dict[str, WritePiece]:
    """Return the extensions of a request whose response takes pieces at once."""
    return {_EXTENSION: write}


def direct_write_of(scope: Mapping[str, Any]) -> WritePiece | None:
    """Return how pieces of the response are written at once; None where the server cannot do it."""
    found: WritePiece | None = (scope.get("extensions") or {}).get(_EXTENSION)
    return found


def framed_piece(data: bytes) -> bytes:
    """Return ``data`` as one chunk of a response with chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)
