"""Reads the side file of a picture: capture time, camera and metadata as JSON."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, ValidationError

from infra.regular_files import read_regular
from schemas.errors import StandgaleError
from schemas.geometry import CameraGeometry

MOST_BYTES = 65_536
"""The most bytes of a side file."""


class SideFileError(StandgaleError):
    """A side file cannot be used as it is; correct or remove it."""

    code = "SIDE_FILE"


class _Content(CameraGeometry):
    """Is what a side file may contain: the fields of an upload."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    captured_at: AwareDatetime | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    original_filename: Annotated[str, Field(min_length=1, max_length=255)] | None = None


@dataclass(frozen=True, slots=True)
class SideFile:
    """Holds what a side file says; empty where there is none."""

    path: Path | None = None
    captured_at: datetime | None = None
    name: str | None = None
    camera: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


def find_side_file(picture: Path) -> Path | None:
    """Return the side file of ``picture``: photo.jpg.json, else photo.json; None without one."""
    for path in (picture.with_name(picture.name + ".json"), picture.with_suffix(".json")):
        try:
            if path.is_file():
                return path
        except OSError as error:
            # A picture may have the longest name that the file system takes.
            if error.errno != errno.ENAMETOOLONG:
                raise
    return None


def read_side_file(path: Path) -> SideFile:
    """Return what is in ``path``. Raises SideFileError, and FileNotFoundError when it is gone."""
    try:
        content = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SideFileError(f"{path} cannot be read: {error.strerror}") from error
    return replace(parse_side_file(content, str(path)), path=path)


def parse_side_file(content: bytes, name: str) -> SideFile:
    """Return what ``content`` says; ``name`` is for error texts. Raises SideFileError."""
    if len(content) > MOST_BYTES:
        raise SideFileError(f"{name} has more than {MOST_BYTES} bytes")
    try:
        read = _Content.model_validate(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        raise SideFileError(f"{name} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        fields = ", ".join(_Content.model_fields)
        raise SideFileError(f"{name}: {where}: {first['msg']}; its fields are {fields}") from error
    try:
        captured_at = None if read.captured_at is None else read.captured_at.astimezone(UTC)
    except OverflowError as error:
        raise SideFileError(f"{name}: captured_at: {error}; correct the time") from error
    camera = {field: value for field in CameraGeometry.model_fields if (value := getattr(read, field)) is not None}
    if ("latitude" in camera) != ("longitude" in camera):
        raise SideFileError(f"{name}: latitude and longitude must be given together")
    return SideFile(None, captured_at, read.original_filename, camera, read.metadata)


def side_names(name: str) -> tuple[str, ...]:
    """Return the names that the side file of the picture ``name`` may have, the first one first."""
    stem, dot, _ = name.rpartition(".")
    return (f"{name}.json", f"{stem}.json") if dot and stem and not stem.endswith("/") else (f"{name}.json",)
