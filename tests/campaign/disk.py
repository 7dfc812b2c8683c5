"""Mounts a small disk for the data folder that can be filled and freed, where the system allows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SIZE_MB = 384
_STEP = 1 << 20


class SmallDisk:
    """Fills and frees a tmpfs at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Use all free space."""
        with self._ballast.open("ab") as file:
            for step in (_STEP, 4096):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def mount_small_disk(folder: Path, size_mb: int = _SIZE_MB) -> Iterator[SmallDisk | None]:
    """Mount the disk inside the block; yield None where mounting is not allowed, with ``folder`` as an ordinary one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _mount(folder, size_mb):
        yield None
        return
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


def _mount(folder: Path, size_mb: int) -> bool:
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    options = ["-t", "tmpfs", "-o", f"size={size_mb}m,mode=755", "tmpfs"]
    return subprocess.run(["mount", *options, folder], capture_output=True, check=False).returncode == 0
