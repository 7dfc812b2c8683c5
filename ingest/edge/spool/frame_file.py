"""Writes and reads the files of the spool: one line of JSON, then the image's bytes.

A file gets its name only when it is complete and on the disk. A disk that does not keep this promise leaves a file that
is too short or has other bytes, which reading detects by size and SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from infra.storage.durable_files import sync_file, sync_folder, write_all
from ingest.edge.port import NewFrame
from schemas.errors import StandgaleError
from schemas.timestamps import format_utc

SUFFIX = ".frame"
UNFINISHED = ".unfinished"
_MOST_HEADER_BYTES = 1 << 20


class DamagedFrameError(StandgaleError):
    """A file of the spool does not have the bytes that were written to it."""

    code = "SPOOL_DAMAGED"


class Header(BaseModel):
    """Describes a frame in the spool: all that is sent beside the image."""

    model_config = ConfigDict(frozen=True)

    captured_at: datetime
    sha256: str
    size_bytes: int
    name: str | None = None
    camera: Mapping[str, float] = {}
    metadata: Mapping[str, JsonValue] = {}
    flight: str | None = None


@dataclass(frozen=True, slots=True)
class SpooledFrame:
    """Holds a frame that was read from the spool."""

    header: Header
    image: bytes


def header_of(frame: NewFrame, flight: str | None = None) -> Header:
    """Return the header of ``frame``, which belongs to ``flight`` where it names none.

    Raises ValueError for a capture time without a time zone.
    """
    format_utc(frame.captured_at)
    return Header(
        captured_at=frame.captured_at.astimezone(UTC),
        sha256=sha256(frame.image).hexdigest(),
        size_bytes=len(frame.image),
        name=frame.name,
        camera=frame.camera,
        metadata=frame.metadata,
        flight=frame.flight or flight,
    )


def frame_key(header: Header) -> str:
    """Return what identifies the frame on this device, as its id does on the server: capture time and content."""
    return sha256(f"{format_utc(header.captured_at)} {header.sha256}".encode()).hexdigest()[:32]


def file_name(number: int, key: str) -> str:
    """Return the name of a frame's file: numbers of equal length, so that the order of names is the queue's."""
    return f"{number:012d}-{key}{SUFFIX}"


def number_and_key(name: str) -> tuple[int, str] | None:
    """Return number and key in the name of a frame's file, or None for another file."""
    number, _, key = name.removesuffix(SUFFIX).partition("-")
    return (int(number), key) if name.endswith(SUFFIX) and number.isdigit() else None


def encode(header: Header) -> bytes:
    """Return the first line of a frame's file."""
    return header.model_dump_json().encode() + b"\n"


def write_frame(path: Path, first_line: bytes, image: bytes) -> None:
    """Write a frame's file; at the return it survives a power cut. Raises OSError, and then leaves no file."""
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for part in (first_line, image):
                write_all(descriptor, part)
            sync_file(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(path)
        sync_folder(path.parent)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def read_frame(path: Path) -> SpooledFrame:
    """Return the frame in ``path``. Raises DamagedFrameError if it is not the one that was written, and OSError."""
    with path.open("rb") as file:
        line = file.readline(_MOST_HEADER_BYTES)
        header = _header_in(path, line)
        image = file.read(header.size_bytes + 1)
    if len(image) != header.size_bytes:
        raise DamagedFrameError(
            f"{path} has {len(image)} bytes of an image of {header.size_bytes}: its end was not written to the disk"
        )
    if sha256(image).hexdigest() != header.sha256:
        raise DamagedFrameError(f"{path} has an image with other bytes than were written")
    return SpooledFrame(header, image)


def read_header(path: Path) -> Header:
    """Return the header of the frame in ``path``. Raises DamagedFrameError and OSError."""
    with path.open("rb") as file:
        return _header_in(path, file.readline(_MOST_HEADER_BYTES))


def _header_in(path: Path, line: bytes) -> Header:
    try:
        return Header.model_validate(orjson.loads(line))
    except (orjson.JSONDecodeError, ValidationError) as error:
        raise DamagedFrameError(f"{path} does not begin with a frame's description") from error
