"""Replays a source: reads and stores several pictures at once, publishes in order, and keeps the checkpoint.

Order of one batch: write what is about to be published, publish, write that it is published. So after a crash at any
moment every frame is in the topic once: what the checkpoint does not know is looked up in the topic.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from infra.error_groups import first_error
from infra.errors import RecordError, TransientError
from infra.failure.backoff import Backoff
from ingest.acceptance.acceptance import Acceptance, ExaminedImage
from ingest.replay.checkpoint import Checkpoint, Refusal, ids_of
from ingest.replay.errors import CheckpointError
from ingest.replay.frames import FrameMaker, Known, Outcome, Ready, load
from ingest.replay.metrics import REPLAYED
from ingest.replay.pace import BacklogGate, Rate
from ingest.replay.port import Item, Source
from ingest.replay.progress import Progress
from ingest.replay.settings import ReplaySettings
from ingest.replay.tail import BackfillTail
from schemas.events import FrameCaptured
from schemas.timestamps import format_utc, utc_now
from schemas.topics import FRAMES_BACKFILL

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """Holds what a replay uses; the caller closes it."""

    settings: ReplaySettings
    source: Source
    acceptance: Acceptance
    tail: BackfillTail
    checkpoint: Checkpoint
    maker: FrameMaker
    gate: BacklogGate
    progress: Progress
    dry: bool = False
    """Nothing is stored or published; the checkpoint is one that is thrown away"""


class Replay:
    """Runs one replay, from where the checkpoint ends to the end of the source."""

    def __init__(self, parts: ReplayParts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._state = parts.checkpoint.state
        self._progress = parts.progress
        self._recovered: set[UUID] = ids_of(self._state.recovered)
        self._listed: asyncio.Queue[asyncio.Task[Outcome] | None] = asyncio.Queue(parts.settings.in_progress)

    async def run(self) -> None:
        """Replay until the end of the source. May be cancelled at any moment. Raises SourceError, CheckpointError."""
        progress = self._progress
        progress.before = self._state.accepted + self._state.known + self._state.refused
        try:
            async with asyncio.TaskGroup() as tasks:
                counting = tasks.create_task(self._count())
                await self._recover()
                tasks.create_task(self._list(tasks))
                await self._finish_all()
                counting.cancel()
        except BaseExceptionGroup as group:
            raise first_error(group) from group
        self._state.finished_at = format_utc(utc_now())
        await self._write()

    async def _count(self) -> None:
        with suppress(TransientError):
            self._progress.totals = await self._parts.source.count()

    async def _recover(self) -> None:
        """Find out which of the frames that were about to be published before a crash are in the topic."""
        state = self._state
        lost = await self._retried(lambda: self._parts.tail.lost(state.reached), "broker") if state.reached else ()
        if lost:
            raise CheckpointError(
                f"{FRAMES_BACKFILL} ends before frames that this replay published: it was emptied or made anew, and "
                "they are gone, processed or not. --restart sends all again; their ids stay the same"
            )
        if not state.pending:
            return
        pending = ids_of(state.pending)
        found = await self._retried(lambda: self._parts.tail.published(pending, state.ends), "broker")
        self._recovered |= found
        state.recovered = [str(each) for each in self._recovered]
        state.pending, state.ends = [], {}
        await self._write()

    async def _list(self, tasks: asyncio.TaskGroup) -> None:
        """Start a task for each item, as many as may be in progress, in the order of the source."""
        rate = Rate(self._settings.rate)
        async for item in self._items():
            await self._parts.gate.enter()
            await rate.take(1)
            await self._listed.put(tasks.create_task(self._prepare(item)))
        await self._listed.put(None)

    async def _items(self) -> AsyncIterator[Item]:
        cursor = self._state.cursor
        backoff = Backoff(self._settings)
        while True:
            try:
                async with aclosing(self._parts.source.items(cursor)) as items:
                    async for item in items:
                        yield item
                        cursor = item.position
                        backoff.reset()
                        self._progress.wait("source", None)
                return
            except TransientError as error:
                self._progress.wait("source", str(error))
                await asyncio.sleep(backoff.next_delay_s())

    async def _prepare(self, item: Item) -> Outcome:
        content = await self._retried(lambda: load(item), "source")
        if isinstance(content, Refusal):
            return content

        def store(image: bytes, examined: ExaminedImage) -> Awaitable[str]:
            return self._retried(lambda: self._parts.acceptance.store(image, examined), "store")

        make = self._parts.maker.make
        return await self._retried(lambda: make(item, content, store), "broker")

    async def _finish_all(self) -> None:
        """Finish outcomes in order; those that are ready together make one batch."""
        held: asyncio.Task[Outcome] | None = None
        while (first := held or await self._listed.get()) is not None:
            held = None
            batch = [await first]
            while len(batch) < self._settings.batch_frames and not self._listed.empty():
                following = self._listed.get_nowait()
                if following is None:
                    await self._finish(batch)
                    return
                if not following.done():
                    held = following
                    break
                batch.append(following.result())
            await self._finish(batch)

    async def _finish(self, batch: Sequence[Outcome]) -> None:
        """Publish the new frames of ``batch``, and write that all before the end of it is done."""
        refusals = [each for each in batch if isinstance(each, Refusal)]
        new: dict[UUID, Ready] = {}
        known = [each for each in batch if isinstance(each, Known)]
        recovered: list[Ready] = []
        for each in batch:
            if isinstance(each, Ready):
                self._sort(each, new, recovered, known)
        if new and not self._parts.dry:
            refusals += await self._publish_new(new)
        accepted = [*new.values(), *recovered]
        state, progress = self._state, self._progress
        state.accepted += len(accepted)
        state.known += len(known)
        state.refused += len(refusals)
        state.size_bytes += sum(each.size_bytes for each in accepted)
        state.cursor = batch[-1].position
        state.pending, state.ends = [], {}
        state.recovered = [str(each) for each in self._recovered]
        await self._write([each.event.frame_id for each in accepted], refusals)
        self._parts.gate.settle(len(batch))
        progress.done += len(batch)
        progress.accepted += len(accepted)
        progress.known += len(known)
        progress.refused += len(refusals)
        progress.size_bytes += sum(each.size_bytes for each in accepted)
        for result, count in (("accepted", len(accepted)), ("known", len(known)), ("refused", len(refusals))):
            REPLAYED.labels(result).inc(count)

    def _sort(self, each: Ready, new: dict[UUID, Ready], recovered: list[Ready], known: list[Known]) -> None:
        """Put a frame to those that are new, that a crash left in the topic, or that are twice in the source."""
        frame = each.event.frame_id
        if frame in self._recovered:
            self._recovered.discard(frame)
            recovered.append(each)
        elif frame in new or self._parts.checkpoint.is_sent(frame):
            known.append(Known(each.position, each.size_bytes))
        else:
            new[frame] = each

    async def _publish_new(self, new: dict[UUID, Ready]) -> list[Refusal]:
        """Publish ``new``, each once whatever fails; return, and take out of ``new``, those the broker refuses."""
        devices: dict[str, list[FrameCaptured]] = {}
        for each in new.values():
            devices.setdefault(each.event.device_id, []).append(each.event)
        state, tail = self._state, self._parts.tail
        ends = await self._retried(lambda: tail.ends(devices), "broker")
        state.pending, state.ends = [str(each) for each in new], dict(ends)
        await self._write()
        refusals: list[Refusal] = []
        for events in devices.values():
            try:
                await self._publish_once(events)
            except RecordError:
                refusals += await self._publish_singly(events, new)
        if not refusals:
            state.reached |= {partition: end + 1 for partition, end in ends.items()}
        return refusals

    async def _publish_singly(self, events: Sequence[FrameCaptured], new: dict[UUID, Ready]) -> list[Refusal]:
        refusals = []
        for event in events:
            try:
                await self._publish_once([event])
            except RecordError as error:
                left = new.pop(event.frame_id)
                name = event.original_filename or str(event.frame_id)
                refusals.append(Refusal(left.position, name, error.code, str(error)))
        return refusals

    async def _publish_once(self, events: Sequence[FrameCaptured]) -> None:
        """Publish ``events``; after a failure only those that are not in the topic."""
        ids = {event.frame_id for event in events}
        done: set[UUID] = set()
        failed = False

        async def attempt() -> None:
            nonlocal failed, done
            if failed:
                done = await self._parts.tail.published(ids, self._state.ends)
            failed = True
            await self._parts.acceptance.publish(
                [event for event in events if event.frame_id not in done], FRAMES_BACKFILL
            )

        await self._retried(attempt, "broker")

    async def _write(self, sent: Sequence[UUID] = (), refused: Sequence[Refusal] = ()) -> None:
        await asyncio.to_thread(self._parts.checkpoint.write, sent, refused)

    async def _retried(self, work: Callable[[], Awaitable[T]], what: str) -> T:
        """Do ``work`` until it succeeds; the progress says what it waits for."""
        backoff = Backoff(self._settings)
        waits = False
        while True:
            try:
                result = await work()
            except TransientError as error:
                self._progress.wait(what, str(error))
                waits = True
                await asyncio.sleep(backoff.next_delay_s())
            else:
                if waits:
                    self._progress.wait(what, None)
                return result
