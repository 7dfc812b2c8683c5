"""Finds in a sorted list of objects the side file of each picture, without keeping the whole list."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from ingest.files.side_file import side_names

# A side file comes so many keys before or after its picture at most.
_AHEAD = 1_000


@dataclass(frozen=True, slots=True)
class Listed:
    """Is an object in a list."""

    key: str
    size_bytes: int
    modified_at: datetime | None = None


async def with_side_files(objects: AsyncIterator[Listed]) -> AsyncIterator[tuple[Listed, str | None]]:
    """Yield each object with the key of its side file, None without one."""
    waiting: deque[Listed] = deque()
    recent: deque[str] = deque()
    sides: set[str] = set()

    def paired() -> tuple[Listed, str | None]:
        first = waiting.popleft()
        return first, next((name for name in side_names(first.key) if name in sides), None)

    async for found in objects:
        waiting.append(found)
        if found.key.lower().endswith(".json"):
            sides.add(found.key)
            recent.append(found.key)
            if len(recent) > 2 * _AHEAD:
                sides.discard(recent.popleft())
        if len(waiting) > _AHEAD:
            yield paired()
    while waiting:
        yield paired()
