"""Notices that the broker's file was removed, moved away or replaced while this process uses it.

An open file goes on working after its name is gone: commits would succeed, and vanish with the last process. So every
transaction compares what is at the path with what was opened. A file that comes back under its name is used on, with
nothing lost. Another file in its place is not: offsets, ownership and what consumers remember belong to the former one.
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
        """Whether this process has opened the file before, so that no other may be made in its place."""
        return bool(self._taken)

    def record(self) -> None:
        """Note the identity of what was just opened. Raises BrokerUnavailableError when it is not the former file."""
        if self.is_known:
            self._check_file()
        taken = {path: _inode_of(path) for path in (self.path, self._log, self._index)}
        self._taken = {path: identity for path, identity in taken.items() if identity is not None}

    def drop_companions(self) -> None:
        """Compare the file alone from now on: its companions may go when its last connection is closed."""
        self._taken = {path: identity for path, identity in self._taken.items() if path == self.path}

    def check(self) -> None:
        """Return when everything is in its place; raises BrokerUnavailableError with what to do."""
        if not self.is_known:
            return
        self._check_file()
        for path in (self._log, self._index):
            if self._lacks(path):
                raise BrokerUnavailableError(
                    f"embedded broker {self.path}: {path.name}, which belongs to it, was removed or replaced while in "
                    "use; nothing is accepted or delivered any more. Stop all processes that use it in order (SIGTERM, "
                    "not SIGKILL), so that what they have of the removed file gets into the broker's file; then start "
                    "them"
                )

    def is_replaced(self) -> bool:
        """Whether another file is in the place of the one that this process has open."""
        return self._lacks(self.path) and self.path.exists()

    def is_log_lost(self) -> bool:
        """Whether the file is in its place but its write-ahead log is not."""
        return not self._lacks(self.path) and self._lacks(self._log)

    def _lacks(self, path: Path) -> bool:
        taken = self._taken.get(path)  # asked once: another thread may release the companions meanwhile
        return taken is not None and _inode_of(path) != taken

    def _check_file(self) -> None:
        found = _inode_of(self.path)
        if found is None:
            raise BrokerUnavailableError(
                f"embedded broker {self.path}: the file was removed, or it or its folder was moved away, while this "
                "process uses it; nothing is accepted or delivered. Put it back under its name, with its -wal file, "
                "and all goes on with nothing lost; only when it is gone for good, remove "
                f"{self.path.name}.made and restart all processes, which begin with an empty file"
            )
        if found != self._taken[self.path]:
            raise BrokerUnavailableError(
                f"embedded broker {self.path}: another file was put in its place while this process uses the former "
                "one; nothing is accepted or delivered. Put the former file back, or restart all processes to go on "
                "with the new one"
            )


def _inode_of(path: Path) -> _Inode | None:
    try:
        # Six of these are made for every transaction, and Path.stat costs twice as much.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino
