"""Replays the pictures of an object store, in the order of their keys; what differs between stores is a port."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from functools import partial
from typing import Protocol

from ingest.files.side_file import MOST_BYTES, SideFile, SideFileError, parse_side_file
from ingest.replay.errors import RefusedItemError
from ingest.replay.port import Content, Item, Picture, Totals, refused
from ingest.replay.sources.names import is_picture, too_large, unwanted
from ingest.replay.sources.pairs import Listed, with_side_files


class ObjectLister(Protocol):
    """Lists and reads objects."""

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """What the objects are identified by."""
        ...

    def listed(self, after: str | None) -> AsyncIterator[Listed]:
        """Yield the objects after the key ``after``, by key. Raises SourceUnavailableError or SourceError."""
        ...

    async def read(self, key: str, most_bytes: int) -> bytes:
        """Return the object. Raises RefusedItemError, SourceUnavailableError or SourceError."""
        ...

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        ...


class ObjectSource:
    """Reads the pictures of one bucket or repository."""

    def __init__(self, lister: ObjectLister, suffixes: tuple[str, ...], max_bytes: int) -> None:
        self._lister = lister
        self._suffixes = suffixes
        self._max_bytes = max_bytes

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """The address of the objects."""
        return self._lister.identity

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the pictures; a position is a key."""
        async for found, side in with_side_files(self._lister.listed(after and _before(after))):
            if after is not None and found.key <= after:
                continue
            item = self._item(found, side)
            if item is not None:
                yield item

    async def count(self) -> Totals | None:
        """Return how many pictures the list has."""
        size = wanted = passed_over = 0
        async for found in self._lister.listed(None):
            if self._item(found, None) is not None:
                wanted, size = wanted + 1, size + found.size_bytes
            elif not found.key.endswith(("/", ".json")):
                passed_over += 1
        return Totals(wanted, size, passed_over)

    async def close(self) -> None:
        """Close all connections."""
        await self._lister.close()

    def _item(self, found: Listed, side: str | None) -> Item | None:
        if not is_picture(found.key, self._suffixes):
            why = unwanted(found.key, inside="an object store")
            return None if why is None else refused(found.key, found.key, why.code, why.reason)
        if found.size_bytes > self._max_bytes:
            why = too_large(found.size_bytes, self._max_bytes)
            return refused(found.key, found.key, why.code, why.reason)
        return Item(found.key, found.key, partial(self._load, found, side))

    async def _load(self, found: Listed, side_key: str | None) -> Content:
        image = await self._lister.read(found.key, self._max_bytes)
        side = SideFile()
        if side_key is not None:
            try:
                side = parse_side_file(await self._lister.read(side_key, MOST_BYTES), side_key)
            except SideFileError as error:
                raise RefusedItemError("SIDE_FILE", str(error)) from error
        return Picture(image, found.key, side, found.modified_at)


def _before(key: str) -> str:
    """Return a key before the side files of those that follow ``key``: a.json comes before a.png and a.tif."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"
