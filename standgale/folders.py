"""Checks, before work begins, that a folder can be made, can be written to, and has space on its disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from infra.errors import SettingsError

# What a new folder needs: a new embedded database takes 40 MB, its log and the broker the rest of it.
_LEAST_FREE_BYTES = 100_000_000


def require_writable(name: str, folder: Path) -> None:
    """Raise SettingsError if ``folder`` (the setting or option ``name``) is not writable, or is new on a full disk."""
    for text in folder_problems(name, folder):
        raise SettingsError(text)


def folder_problems(name: str, folder: Path) -> Iterator[str]:
    """Yield what is wrong with ``folder``, the setting or option ``name``, as a sentence with the remedy."""
    there = nearest_existing(folder.absolute())
    if not there.is_dir():
        yield f"{name} {folder}: {there} is a file, not a folder; give another one"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"{name} {folder}: this user may not write to {there}; change its permissions, or give another folder"
    elif there != folder.absolute() and (free := shutil.disk_usage(there).free) < _LEAST_FREE_BYTES:
        # One that exists was used before: services start on a full disk, too, and wait until it has space.
        yield (
            f"{name} {folder}: only {free / 1e6:.0f} MB are free on its disk, {_LEAST_FREE_BYTES / 1e6:.0f} MB are "
            "needed to start; free some space, or give a folder on another disk"
        )


def nearest_existing(path: Path) -> Path:
    """Return ``path``, or the nearest parent that exists and that this user can see."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
