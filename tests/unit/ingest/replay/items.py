"""Reads whole sources in tests."""

from __future__ import annotations

from ingest.replay.errors import RefusedItemError
from ingest.replay.port import Picture, Source


async def names(source: Source, after: str | None = None) -> list[str]:
    """Return the names of all items."""
    return [item.name async for item in source.items(after)]


async def read_all(source: Source, after: str | None = None) -> dict[str, Picture | str]:
    """Return the picture of each item, or the code for which it is refused."""
    found: dict[str, Picture | str] = {}
    async for item in source.items(after):
        try:
            content = await item.load()
            assert isinstance(content, Picture)
            found[item.name] = content
        except RefusedItemError as error:
            found[item.name] = error.reason
    return found


async def positions(source: Source) -> list[str]:
    return [item.position async for item in source.items(None)]
