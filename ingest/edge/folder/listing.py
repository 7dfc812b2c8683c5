"""Lists the pictures in a folder and in the folders in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class FileState:
    """Identifies the content of a file without reading it."""

    size: int
    mtime_ns: int

    @staticmethod
    def of(found: os.stat_result) -> FileState:
        """Return the state in the result of a stat call."""
        return FileState(found.st_size, found.st_mtime_ns)


@dataclass(slots=True)
class Listing:
    """Holds what was found: pictures with their states, and all folders."""

    pictures: dict[Path, FileState] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    unreadable: str | None = None
    """A folder inside that cannot be read, and why."""


def is_wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether a file of this name is taken; programs hide files that they have not finished."""
    return not name.startswith(".") and name.lower().endswith(suffixes)


def list_pictures(root: Path, suffixes: tuple[str, ...], is_new: Callable[[Path, FileState], bool]) -> Listing:
    """Return the pictures below ``root`` that ``is_new`` wants. Raises OSError when ``root`` cannot be read.

    Links are not followed, and hidden files and folders are passed over.
    """
    found = Listing()
    _list(root, suffixes, is_new, found, 0)
    return found


def _list(
    folder: Path, suffixes: tuple[str, ...], is_new: Callable[[Path, FileState], bool], found: Listing, depth: int
) -> None:
    found.folders.append(folder)
    with os.scandir(folder) as entries:
        inside = list(entries)
    for entry in inside:
        try:
            if entry.is_dir(follow_symlinks=False):
                if entry.name.startswith("."):
                    continue
                if depth < _DEEPEST:
                    _list(folder / entry.name, suffixes, is_new, found, depth + 1)
                else:
                    found.unreadable = f"{entry.path} is not looked into: it is more than {_DEEPEST} folders deep"
            elif is_wanted(entry.name, suffixes) and entry.is_file(follow_symlinks=False):
                path, state = folder / entry.name, FileState.of(entry.stat(follow_symlinks=False))
                if is_new(path, state):
                    found.pictures[path] = state
        except FileNotFoundError:  # its writer renamed or removed it meanwhile
            continue
        except OSError as error:
            found.unreadable = f"{entry.path} cannot be read: {error.strerror}"
