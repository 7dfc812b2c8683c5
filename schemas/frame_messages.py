"""Defines what both sides of a stream of frames know: its name, and the messages with frames (docs/stream.md)."""

from __future__ import annotations

import struct

STREAM_PATH = "/api/v1/stream"
SUBPROTOCOL = "standgale.frames.v1"
HEAD = struct.Struct(">B3sIIQ")
"""FRAME, ZEROS, length of the fields, length of the image, sequence number."""
FRAME = 1
ZEROS = b"\0\0\0"


def frame_message(sequence: int, fields: bytes, image: bytes) -> bytes:
    """Return the message of a frame; ``fields`` is JSON, and ``image`` empty where they name a stored one."""
    return HEAD.pack(FRAME, ZEROS, len(fields), len(image), sequence) + fields + image
