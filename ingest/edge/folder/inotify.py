"""Reads from Linux which files were closed after writing or renamed into a folder.

The usual libraries report that a file changed, but not that its writer closed it, so the three calls of inotify are
made here. Where they do not work the folder is listed instead.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x8, 0x80, 0x100
_DELETE_SELF, _MOVE_SELF, _UNMOUNT = 0x400, 0x800, 0x2000
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_ONLY_FOLDER, _DONT_FOLLOW = 0x1000000, 0x2000000
_WANTED = _CLOSE_WRITE | _MOVED_TO | _CREATE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDER | _DONT_FOLLOW
_EVENT = struct.Struct("iIII")
_READ_BYTES = 65_536
_MOST_COMPLETE = 100_000


class FolderEvents:
    """Collects the events of a folder and of those in it, while the event loop runs."""

    def __init__(self) -> None:
        """Raise OSError where the system has no inotify, or no more of it for this user."""
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._init, self._add = libc.inotify_init1, libc.inotify_add_watch
        except AttributeError as error:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
        self._descriptor: int = self._init(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _error()
        self._folders: dict[int, Path] = {}
        self._complete: dict[Path, None] = {}
        self._incomplete_list = False
        self.changed = asyncio.Event()
        """Set when there is something to take, or the folder must be listed."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stop."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def watch(self, folders: Iterable[Path]) -> None:
        """Watch ``folders``, too; those that are watched already or gone are passed over. Raises OSError."""
        for folder in folders:
            number = self._add(self._descriptor, os.fsencode(folder), _WANTED)
            if number >= 0:
                self._folders[number] = folder
            elif (error := _error()).errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise error

    def take(self) -> tuple[list[Path], bool]:
        """Return the files that are complete since the last call, and whether the folder must be listed."""
        found, must_list = list(self._complete), self._incomplete_list
        self._complete.clear()
        self._incomplete_list = False
        self.changed.clear()
        return found, must_list

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
            at += _EVENT.size + length
            self._note(number, mask, os.fsdecode(name))
        self.changed.set()

    def _note(self, number: int, mask: int, name: str) -> None:
        folder = self._folders.get(number)
        if mask & _IGNORED:
            self._folders.pop(number, None)
        if mask & (_OVERFLOW | _IGNORED | _IS_FOLDER | _DELETE_SELF | _MOVE_SELF | _UNMOUNT) or folder is None:
            # Events were lost, or there are new folders, whose files came before they were watched.
            self._incomplete_list = True
        elif mask & (_CLOSE_WRITE | _MOVED_TO):
            self._complete[folder / name] = None
            if len(self._complete) > _MOST_COMPLETE:
                self._complete.clear()
                self._incomplete_list = True


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
