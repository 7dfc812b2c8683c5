"""Carries out the intents: the bytes first, then the place in the archive, then the rows with the intent itself.

What is still to be done is read from the store each time, so that any step may be killed and is done again:

- A picture that is there is removed, unless something needs it now, or a put has renewed it: then its rows stay, too.
- A picture that is not there has lost its bytes, so the rest goes. It is looked for once more just before its rows go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.errors import ImageMissingError
from infra.storage.frames.port import FrameStore
from infra.texts import counted
from sinks.retention.looking.audit import without_rows
from sinks.retention.looking.frames import pictures_of
from sinks.retention.looking.plan import Planned
from sinks.retention.metrics import REMOVED_BYTES, REMOVED_PICTURES
from sinks.retention.policy import Policy, RunReport, Tally
from sinks.retention.port import FrameArchive
from sinks.retention.removal.intents import next_intents, strike_out
from sinks.retention.removal.lease import RemovalLease
from sinks.retention.removal.rows import archive_paths, delete_rows, note_not_archived

logger = logging.getLogger(__name__)

_BATCH = 500
_AT_ONCE = 16


class Remover:
    """Carries out what is written down, a batch at a time."""

    def __init__(
        self,
        store: FrameStore,
        database: Database,
        archive: FrameArchive | None,
        lease: RemovalLease,
        *,
        batch: int = _BATCH,
    ) -> None:
        self._store = store
        self._database = database
        self._archive = archive
        self._lease = lease
        self._batch = batch

    async def carry_out(self, policy: Policy, report: RunReport, beat: Callable[[], None]) -> None:
        """Carry out all intents, and count them in ``report``. Raises TransientError; the rest is done by a later call.

        ``beat`` is called between two batches.
        """
        while True:
            beat()
            async with self._database.acquire(writing=True) as connection:
                await self._lease.renew_in(connection)
                intents = {each.sha256: each for each in await next_intents(connection, self._batch)}
            if not intents:
                return
            await self._carry_out(intents, policy, report)

    async def _carry_out(self, intents: Mapping[str, Planned], policy: Policy, report: RunReport) -> None:
        there = (await self._store.find(intents)).keys() & intents.keys()
        needed = await self._needed([intents[digest] for digest in there], policy)
        removed = await self._remove_objects([intents[digest] for digest in there - needed], policy)
        gone = (intents.keys() - there) | removed
        await self._remove_from_archive(gone)
        # A put meanwhile has stored the picture again: then it is a frame like any other.
        again = (await self._store.find(gone)).keys() & gone
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            report.removed_frames += await delete_rows(connection, gone - again)
            if self._archive is not None:
                await note_not_archived(connection, again)
            await strike_out(connection, intents.keys())
        self._count([intents[digest] for digest in gone - again], report)
        report.spared += len(intents) - len(gone - again)

    async def _needed(self, there: Sequence[Planned], policy: Policy) -> set[str]:
        """Return the pictures that are not to be removed any more: what keeps them may have come after the plan."""
        if not there:
            return set()
        orphans = {each.sha256 for each in there if each.reason == "orphan"}
        frames = {each.sha256 for each in there} - orphans
        async with self._database.acquire() as connection:
            pictures = await pictures_of(connection, frames, policy)
            still_orphans = await without_rows(connection, orphans)
        return {digest for digest, picture in pictures.items() if picture.kept is not None} | (orphans - still_orphans)

    async def _remove_objects(self, wanted: Sequence[Planned], policy: Policy) -> set[str]:
        """Remove the pictures; return the digests of those that are gone."""
        turns = asyncio.Semaphore(_AT_ONCE)
        removed: set[str] = set()

        async def remove(each: Planned) -> None:
            async with turns:
                if await self._remove_object(each, policy.cutoff(each.reason)):
                    removed.add(each.sha256)

        # All of them end before an error is raised: nothing is removed after the lease was given back.
        for error in await asyncio.gather(*map(remove, wanted), return_exceptions=True):
            if error is not None:
                raise error
        return removed

    async def _remove_object(self, each: Planned, cutoff: datetime) -> bool:
        self._lease.require()
        try:
            return await self._store.delete_older(each.image_uri, cutoff)
        except ImageMissingError:
            # The row names a place outside this store, whose own object has another address.
            found = (await self._store.find([each.sha256])).get(each.sha256)
            return found is not None and await self._store.delete_older(found.uri, cutoff)

    async def _remove_from_archive(self, gone: Collection[str]) -> None:
        if self._archive is None or not gone:
            return
        async with self._database.acquire() as connection:
            paths = await archive_paths(connection, gone)
        if paths:
            await self._archive.remove(paths)

    @staticmethod
    def _count(removed: Sequence[Planned], report: RunReport) -> None:
        for each in removed:
            report.removed.setdefault(each.reason, Tally()).add(each.size_bytes)
            REMOVED_PICTURES.labels(each.reason).inc()
            REMOVED_BYTES.labels(each.reason).inc(each.size_bytes)
        if removed:
            logger.info("%s removed", counted(len(removed), "picture"))
