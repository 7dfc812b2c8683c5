"""Reads the side file of a picture: capture time, camera and metadata as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import AwareDatetime, ConfigDict, Field, JsonValue, ValidationError

from infra.regular_files import read_regular
from schemas.errors import StandgaleError
from schemas.geometry import CameraGeometry

_MOST_BYTES = 65_536


class SideFileError(StandgaleError):
    """A side file cannot be used as it is; the picture stays in the folder until it is corrected or removed."""

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
        if path.is_file():
            return path
    return None


def read_side_file(path: Path) -> SideFile:
    """Return what is in ``path``. Raises SideFileError, and FileNotFoundError when it is gone."""
    try:
        content = _Content.model_validate(orjson.loads(read_regular(path, _MOST_BYTES)))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SideFileError(f"{path} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise SideFileError(f"{path} is not JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        fields = ", ".join(_Content.model_fields)
        raise SideFileError(f"{path}: {where}: {first['msg']}; its fields are {fields}") from error
    camera = {name: value for name in CameraGeometry.model_fields if (value := getattr(content, name)) is not None}
    if ("latitude" in camera) != ("longitude" in camera):
        raise SideFileError(f"{path}: latitude and longitude must be given together")
    return SideFile(path, content.captured_at, content.original_filename, camera, content.metadata)
