"""Detects that the broker's file was removed, moved away or replaced while this process uses it.

An open file still works after its name was deleted: commits would succeed, and be lost when the last process ends. So
every transaction compares the file at the path with the file that was opened. A file that returns under its name is
used again, with nothing lost. A different file in its place is not used: offsets, ownership and the state of consumers
belong to the former one.
"""

from __future__ import annotations

import os
from pathlib import Path

from infra.errors import BrokerUnavailableError

_Inode = tuple[int, int]


class FileIdentity:
    """Keeps the identity of the file, its ``-wal`` and its ``-shm``, and compares them from :meth:`record` on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log, self._index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
        self._taken: dict[Path, _Inode] = {}

    @property
    def is_known(self) -> bool:
        """Whether this process has opened the file before, so that no other may be created in its place."""
        return bool(self._taken)

    def record(self) -> None:
        """Store the identity of the file just opened. Raises BrokerUnavailableError when it is not the former file."""
        if self.is_known:
            self._check_file()
        taken = {path: _inode_of(path) for path in (self.path, self._log, self._index)}
        self._taken = {path: identity for path, identity in taken.items() if identity is not None}

    def drop_companions(self) -> None:
        """Compare only the file from now on: its companions may be deleted when its last connection is closed."""
        self._taken = {path: identity for path, identity in self._taken.items() if path == self.path}

    def check(self) -> None:
        """Raise BrokerUnavailableError, with what to do, unless the file and its companions are in their places."""
        if not self.is_known:
            return
        self._check_file()
        for path in (self._log, self._index):
            if self._lacks(path):
                raise BrokerUnavailableError(
                    f"embedded broker {self.path}: {path.name}, which belongs to it, was removed or replaced while in "
                    "use; nothing is accepted or delivered any more. Stop all processes that use it with SIGTERM, not "
                    "SIGKILL, so that they save what they have of the removed file in the broker's file; then start "
                    "them"
                )

    def is_replaced(self) -> bool:
        """Return whether a different file is in the place of the one that this process has open."""
        return self._lacks(self.path) and self.path.exists()

    def is_log_lost(self) -> bool:
        """Return whether the file is in its place but its write-ahead log is not."""
        return not self._lacks(self.path) and self._lacks(self._log)

    def _lacks(self, path: Path) -> bool:
        taken = self._taken.get(path)  # read once: another thread may release the companions at the same time
        return taken is not None and _inode_of(path) != taken

    def _check_file(self) -> None:
        found = _inode_of(self.path)
        if found is None:
            raise BrokerUnavailableError(
                f"embedded broker {self.path}: the file was removed, or it or its folder was moved away, while this "
                "process uses it; nothing is accepted or delivered. Put it back under its name, with its -wal file, "
                "and everything continues with nothing lost; only when it is lost permanently, remove "
                f"{self.path.name}.made and restart all processes, which begin with an empty file"
            )
        if found != self._taken[self.path]:
            raise BrokerUnavailableError(
                f"embedded broker {self.path}: another file was put in its place while this process uses the former "
                "one; nothing is accepted or delivered. Put the former file back, or restart all processes to continue "
                "with the new one"
            )


def _inode_of(path: Path) -> _Inode | None:
    try:
        # Every transaction makes six of these calls, and Path.stat costs twice as much.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino
