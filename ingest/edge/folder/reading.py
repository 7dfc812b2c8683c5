"""Reads one file of the folder with its side file, if it is complete."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from infra.regular_files import open_regular
from ingest.edge.folder.listing import FileState
from ingest.edge.port import NewFrame
from ingest.edge.settings import EdgeSettings
from ingest.files.capture import examine_picture, time_of_writing
from ingest.files.side_file import SideFile, SideFileError, find_side_file, read_side_file


@dataclass(frozen=True, slots=True)
class Loaded:
    """Holds a frame that was read, and the files that it is in."""

    frame: NewFrame
    state: FileState
    side_file: Path | None


@dataclass(frozen=True, slots=True)
class Later:
    """Says why a file is not taken now; it stays in the folder."""

    reason: str
    state: FileState | None = None
    """As it was found; None: it is gone."""
    may_change: bool = True
    """Another attempt may help although the file stays the same."""


def load_file(path: Path, root: Path, settings: EdgeSettings, *, is_settled: bool) -> Loaded | Later:
    """Read the picture at ``path``. ``is_settled``: it was unchanged for so long that it is taken even if cut off."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return Later("it is gone")
    except OSError as error:
        return Later(f"it cannot be read: {error.strerror}")
    state = FileState.of(found)
    if not stat.S_ISREG(found.st_mode):
        return Later("it is not a regular file", state, may_change=False)
    if state.size == 0:
        return Later("it is empty", state, may_change=False)
    if state.size > settings.max_frame_bytes:
        limit = f"edge.max_frame_bytes is {settings.max_frame_bytes}"
        return Later(f"it has {state.size} bytes, and {limit}", state, may_change=False)
    try:
        side = _side_file(path, settings)
        with open_regular(path) as file:
            image = file.read(settings.max_frame_bytes + 1)
            state = FileState.of(os.fstat(file.fileno()))
    except SideFileError as error:
        return Later(str(error), state)
    except FileNotFoundError:
        return Later("it is gone")
    except OSError as error:
        return Later(f"it cannot be read: {error.strerror}", state)
    if side is None:
        return Later("its side file is missing (edge.side_files is required)", state)
    if state != FileState.of(found) or len(image) != state.size:
        return Later("it is being written", state)
    examined = examine_picture(image)
    if examined.is_cut_off and not is_settled:
        return Later("it is not complete yet", state)
    captured_at = side.captured_at or examined.captured_at or time_of_writing(state.mtime_ns)
    name = side.name or _shown(path.relative_to(root))
    return Loaded(NewFrame(image, captured_at, name, side.camera, side.metadata), state, side.path)


def _side_file(path: Path, settings: EdgeSettings) -> SideFile | None:
    """Return what the side file says; None when a required one is missing. Raises SideFileError and OSError."""
    if settings.side_files == "ignore":
        return SideFile()
    found = find_side_file(path)
    if found is not None:
        return read_side_file(found)
    return None if settings.side_files == "required" else SideFile()


def _shown(path: Path) -> str:
    """Return the name as text: names of files may have bytes that are none."""
    return os.fsencode(path.name).decode("utf-8", "replace")
