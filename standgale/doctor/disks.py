"""Checks the free space and the permissions of the folders where files are kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok, problem, warning
from standgale.settings import Settings

_WARN_SHARE = 0.1


class DisksCheck:
    """Checks each disk once."""

    subject = "disks"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        return await in_thread(lambda: list(_disks(self._settings)))


def _disks(settings: Settings) -> Iterator[Finding]:
    folders = {"data_dir": settings.data_dir, "models.cache": settings.model_cache}
    if settings.frames.kind == "folder":
        folders["frames.folder"] = settings.frames_folder
    archive = settings.lakefs.folder_in(settings.data_dir)
    if archive is not None:
        folders["lakefs.folder"] = archive
    seen: set[int] = set()
    for name, folder in folders.items():
        there = _existing(folder.absolute())
        if not os.access(there, os.W_OK | os.X_OK):
            yield problem(f"{name}: this user may not write to {there}", "change its owner or its permissions")
        device = there.stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _judge(name, there, settings.frames.min_free_bytes)


def _judge(name: str, folder: Path, min_free_bytes: int) -> Finding:
    disk = shutil.disk_usage(folder)
    what = f"{name} ({folder}): {disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB are free"
    if disk.free < min_free_bytes:
        return problem(
            f"{what}, less than frames.min_free_bytes ({min_free_bytes / 1e9:.1f} GB)",
            "free some space: frames are refused (docs/operations.md: when the frame store is full)",
        )
    if disk.total and disk.free < _WARN_SHARE * disk.total:
        return warning(what, "free some space before it is full: broker, frame store and database stop then")
    return ok(what)


def _existing(folder: Path) -> Path:
    """Return ``folder``, or the nearest parent that exists."""
    return folder if folder.is_dir() or folder == folder.parent else _existing(folder.parent)
