"""Replays the pictures in a folder and in the folders in it, in the order of their names."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from heapq import nsmallest
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from infra.errors import SettingsError
from infra.regular_files import open_regular
from ingest.files.capture import time_of_writing
from ingest.files.side_file import SideFile, SideFileError, find_side_file, read_side_file
from ingest.replay.errors import RefusedItemError, SourceUnavailableError
from ingest.replay.port import Content, Item, Picture, Totals, refused
from ingest.replay.sources.names import is_picture, too_large, unwanted
from ingest.replay.sources.threads import in_threads

# So many names of a folder are in memory; a folder with more is listed again for the next ones.
_PAGE = 20_000
_AT_ONCE = 256
_DEEPEST = 32
_TRIES = 3
_TRY_AGAIN_S = 0.5


class FolderSource:
    """Reads one folder; links are not followed, hidden files and folders are passed over."""

    def __init__(self, root: Path, suffixes: tuple[str, ...], max_bytes: int) -> None:
        """Raise SettingsError when ``root`` is no folder that can be read."""
        self._root = root.absolute()
        self._suffixes = suffixes
        self._max_bytes = max_bytes
        try:
            self._place = _place(self._root)
            with os.scandir(self._root):
                pass
        except OSError as error:
            raise SettingsError(f"{root}: {error.strerror}; give a folder that can be read") from error

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """The path."""
        return {"kind": "folder", "address": os.fsencode(self._root).decode("utf-8", "backslashreplace")}

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the pictures by name; a position is the path below the folder."""
        cursor = [unquote_to_bytes(part) for part in after.split("/")] if after else []
        async for item in in_threads(self._walk(os.fsencode(self._root), b"", cursor, 0), _AT_ONCE):
            yield item
        await asyncio.to_thread(self._require_place)

    async def count(self) -> Totals | None:
        """Return how many files there are; their sizes are not read."""
        return await asyncio.to_thread(self._count)

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    def _count(self) -> Totals | None:
        wanted = passed_over = 0
        for name in _file_names(self._root, 0):
            if is_picture(name, self._suffixes) or unwanted(name, inside="a folder"):
                wanted += 1
            elif not name.startswith(".") and not name.lower().endswith(".json"):
                passed_over += 1
        return Totals(wanted, None, passed_over)

    def _walk(self, folder: bytes, below: bytes, cursor: list[bytes], depth: int) -> Iterator[Item]:
        first = cursor[0] if cursor else b""
        try:
            for entry in _sorted_entries(folder, first):
                yield from self._entry(entry, below + entry.name, cursor if entry.name == first else [], depth)
        except OSError as error:
            path = os.fsdecode(folder)
            if not depth:
                raise SourceUnavailableError(f"the folder {path} cannot be read: {error.strerror}") from error
            yield refused(
                _position(below.rstrip(b"/")), path, "FOLDER_UNREADABLE", f"it cannot be read: {error.strerror}"
            )

    def _entry(self, entry: os.DirEntry[bytes], path: bytes, cursor: list[bytes], depth: int) -> Iterator[Item]:
        """Yield what is in ``entry``; ``cursor`` begins with its name when it is on the way to where to continue."""
        name = os.fsencode(path).decode("utf-8", "replace")
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(b"."):
                return
            if depth + 1 >= _DEEPEST:
                yield refused(_position(path), name, "TOO_DEEP", f"folders are read {_DEEPEST} levels deep")
            else:
                yield from self._walk(entry.path, path + b"/", cursor[1:], depth + 1)
        elif cursor:
            return
        elif is_picture(name, self._suffixes):
            if entry.is_symlink():
                yield refused(_position(path), name, "LINK", "it is a link, which is not followed")
            else:
                yield Item(_position(path), name, partial(self._load, Path(os.fsdecode(entry.path))))
        elif (why := unwanted(name, inside="a folder")) is not None:
            yield refused(_position(path), name, why.code, why.reason)

    async def _load(self, path: Path) -> Content:
        """Read the picture; one that is written meanwhile is tried again some times."""
        for _ in range(_TRIES):
            found = await asyncio.to_thread(self._read, path)
            if found is not None:
                return found
            await asyncio.sleep(_TRY_AGAIN_S)
        raise RefusedItemError("FILE_CHANGES", "it is being written; replay it again when it is complete")

    def _read(self, path: Path) -> Picture | None:
        """Return the picture; None when it changed while it was read."""
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise RefusedItemError("NOT_A_FILE", "it is not a regular file")
            if found.st_size > self._max_bytes:
                why = too_large(found.st_size, self._max_bytes)
                raise RefusedItemError(why.code, why.reason)
            side_path = find_side_file(path)
            side = SideFile() if side_path is None else read_side_file(side_path)
            with open_regular(path) as file:
                image = file.read(self._max_bytes + 1)
                after = os.fstat(file.fileno())
        except SideFileError as error:
            raise RefusedItemError("SIDE_FILE", str(error)) from error
        except FileNotFoundError as error:
            self._require_place()
            raise RefusedItemError("FILE_GONE", "it was removed or renamed before it was read") from error
        except OSError as error:
            self._require_place()
            raise RefusedItemError("FILE_UNREADABLE", f"it cannot be read: {error.strerror}") from error
        if (after.st_size, after.st_mtime_ns) != (found.st_size, found.st_mtime_ns) or len(image) != after.st_size:
            return None
        name = os.fsencode(path.name).decode("utf-8", "replace")
        return Picture(image, name, side, time_of_writing(after.st_mtime_ns))

    def _require_place(self) -> None:
        """Raise SourceUnavailableError when the folder is another one now, as after its disk was taken away."""
        try:
            same = _place(self._root) == self._place
        except OSError as error:
            raise SourceUnavailableError(f"the folder {self._root} is away: {error.strerror}") from error
        if not same:
            raise SourceUnavailableError(
                f"the folder {self._root} is another one than at the start; mount its disk, or put it back"
            )


def _file_names(folder: Path | str, depth: int) -> Iterator[str]:
    """Yield the names of all files below ``folder`` that can be listed; few are in memory."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry.name
                elif depth + 1 < _DEEPEST and not entry.name.startswith("."):
                    yield from _file_names(entry.path, depth + 1)
    except OSError:
        # What cannot be listed is refused and named when its turn comes.
        return


def _place(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _position(path: bytes) -> str:
    return quote_from_bytes(path, safe="/")


def _sorted_entries(folder: bytes, first: bytes) -> Iterator[os.DirEntry[bytes]]:
    """Yield the entries of ``folder`` from the name ``first`` on, by name; few are in memory whatever their number."""
    least, inclusive = first, True
    while True:
        with os.scandir(folder) as entries:
            later = (each for each in entries if each.name > least or (inclusive and each.name == least))
            page = nsmallest(_PAGE, later, key=lambda each: each.name)
        yield from page
        if len(page) < _PAGE:
            return
        least, inclusive = page[-1].name, False
