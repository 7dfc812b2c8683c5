"""Finds out to which medium of which client the runs belong whose events come, also those that begin later.

A client follows media by their names, while events name runs. Each run is looked up once for all clients of the
process, when its first event comes; only clients that follow media wait for that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sinks.sse.access.ports import Owners

_MOST = 10_000
"""Runs and jobs that are remembered, the newest"""


class MediaRuns:
    """Remembers for the newest runs whose they are; a job that is no run of a medium is nobody's."""

    def __init__(self, owners: Owners, most: int = _MOST) -> None:
        self._owners = owners
        self._most = most
        self._known: OrderedDict[UUID, tuple[str, str] | None] = OrderedDict()
        self._turn = asyncio.Lock()

    async def of_media(self, ids: Collection[UUID], client_id: str, media: Collection[str]) -> frozenset[UUID]:
        """Return those of ``ids`` that are runs of ``media`` of the client. Raises a TransientError."""
        known = {each: self._known[each] for each in ids if each in self._known}
        if len(known) < len(ids):
            async with self._turn:
                known |= {each: self._known[each] for each in ids if each in self._known}
                unknown = [each for each in ids if each not in known]
                if unknown:
                    known |= await self._look_up(unknown)
        owned = {each: owner for each, owner in known.items() if owner is not None}
        return frozenset(each for each, (client, name) in owned.items() if client == client_id and name in media)

    async def _look_up(self, ids: Collection[UUID]) -> dict[UUID, tuple[str, str] | None]:
        found = await self._owners.media_of(ids)
        known = {each: found.get(each) for each in ids}
        self._known.update(known)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class FollowedMedia:
    """Says which media of which client a stream follows."""

    client_id: str
    media: frozenset[str]
    runs: MediaRuns

    async def runs_among(self, ids: Collection[UUID]) -> frozenset[UUID]:
        """Return those of ``ids`` that are runs of the media. Raises a TransientError."""
        return await self.runs.of_media(ids, self.client_id, self.media)
