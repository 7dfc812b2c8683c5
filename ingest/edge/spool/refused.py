"""Sets frames aside that the gateway refuses, as plain pictures with the reason beside them, and brings them back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
from pydantic import BaseModel, ValidationError

from infra.storage.durable_files import sync_file, sync_folder
from ingest.edge.port import NewFrame
from ingest.edge.spool.frame_file import Header, SpooledFrame, frame_key
from schemas.timestamps import format_utc, utc_now

FOLDER = "refused"
DAMAGED_FOLDER = "damaged"
_REASON = ".reason.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 80


class Refusal(BaseModel):
    """Says why a frame was set aside."""

    code: str
    reason: str
    refused_at: str = ""


class _ReasonFile(Refusal):
    frame: Header


def write_refused(folder: Path, frame: SpooledFrame, refusal: Refusal) -> Path:
    """Write the picture of ``frame`` and the reason to ``folder``; return the picture's path. Raises OSError.

    Writing the same frame again replaces it, so a power cut in between does no harm.
    """
    folder.mkdir(exist_ok=True)
    name = _UNSAFE.sub("_", frame.header.name or "frame")[-_LONGEST_NAME:]
    picture = folder / f"{frame_key(frame.header)}-{name}"
    reason = _ReasonFile(code=refusal.code, reason=refusal.reason, refused_at=format_utc(utc_now()), frame=frame.header)
    text = orjson.dumps(reason.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    # The reason last: a picture without one is not brought back, and its frame is still in the spool.
    for path, data in ((picture, frame.image), (picture.with_name(picture.name + _REASON), text)):
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            sync_file(file.fileno())
    sync_folder(folder)
    return picture


def refused_frames(folder: Path) -> Iterator[tuple[Path, Path, NewFrame]]:
    """Yield picture, reason file and frame of all that were set aside in ``folder``, the oldest capture first."""
    found: list[tuple[Header, Path, Path]] = []
    for path in folder.glob(f"*{_REASON}") if folder.is_dir() else ():
        picture = path.with_name(path.name.removesuffix(_REASON))
        try:
            reason = _ReasonFile.model_validate(orjson.loads(path.read_bytes()))
        except (orjson.JSONDecodeError, ValidationError):
            continue  # A person changed it; the picture stays where it is.
        if picture.is_file():
            found.append((reason.frame, picture, path))
    for header, picture, path in sorted(found, key=lambda each: each[0].captured_at):
        frame = NewFrame(
            picture.read_bytes(), header.captured_at, header.name, header.camera, header.metadata, header.flight
        )
        yield picture, path, frame


def size_of(folder: Path) -> tuple[int, int]:
    """Return the number of pictures set aside in ``folder``, and the bytes of all its files."""
    count = size_bytes = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        count += path.name.endswith(_REASON)
        size_bytes += path.stat().st_size
    return count, size_bytes
