"""Commits each partition's finished frames: their detections events and their offsets in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.partitions.partition_queue import Commit, PartitionQueue
from infra.broker.port import Consumer
from infra.consuming.metrics import COMMIT_DURATION, PARTITIONS_LOST, RECORDS_CONSUMED
from infra.errors import PartitionLostError, RecordTooLargeError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_text
from infra.failure.metrics import RECORDS_DEAD
from infra.failure.retry import ConsumerContext, StoppedError
from infra.waiting import wait_until_set
from schemas.topics import FRAMES_LIVE

logger = logging.getLogger(__name__)

_LOST_PAUSE_S = 0.05
_CHECK_AGAIN_S = 0.5
# How long a round waits for its commits; the next round begins without one that takes longer.
_ROUND_S = 0.5


class CommitLoop:
    """Commits finished frames in rounds: partitions in parallel, one partition never twice at the same time.

    A partition whose commit fails is held and takes part in no round until it works, so the others never wait for it.
    """

    def __init__(
        self,
        in_progress: FramesInProgress,
        consumer: Consumer,
        context: ConsumerContext,
        *,
        interval_s: float,
        max_records: int,
    ) -> None:
        self._in_progress = in_progress
        self._consumer = consumer
        self._context = context
        self._interval_s = interval_s
        self._max_records = max_records
        self._busy: dict[PartitionQueue, asyncio.Task[None]] = {}
        self._given_up: set[PartitionQueue] = set()

    async def run(self, is_drained: Callable[[], bool]) -> None:
        """Commit as frames finish, until ``is_drained()`` is true and everything finished is committed."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                # Read first: frames that finish just before the drain ends are then found below.
                drained = is_drained()
                self._in_progress.finished.clear()
                self._in_progress.live_finished.clear()
                queues = [queue for queue in self._in_progress.queues if self._has_work(queue)]
                if queues:
                    has_live = any(queue.has_finished(FRAMES_LIVE) for queue in queues)
                    await self._end_round([self._start(tasks, queue) for queue in queues], has_live)
                elif drained and not self._busy:
                    return
                else:
                    await self._wait()

    async def _end_round(self, started: Collection[asyncio.Task[None]], has_live: bool) -> None:
        """Wait for the commits of a round and for a pause, but not longer than until a first live frame is finished."""
        ending = asyncio.create_task(self._commit_and_pause(started), name="detector-commit-round")
        if has_live:
            await ending
            return
        live = asyncio.create_task(self._in_progress.live_finished.wait(), name="detector-live-finished")
        try:
            await asyncio.wait((ending, live), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            live.cancel()

    async def _commit_and_pause(self, started: Collection[asyncio.Task[None]]) -> None:
        await asyncio.wait(started, timeout=_ROUND_S)
        # A short pause lets more frames finish, so that a transaction carries several under load.
        await asyncio.sleep(self._interval_s)

    async def _wait(self) -> None:
        await wait_until_set(self._in_progress.finished, _CHECK_AGAIN_S)

    def _has_work(self, queue: PartitionQueue) -> bool:
        return queue not in self._busy and queue not in self._given_up and queue.next_commit(1) is not None

    def _start(self, tasks: asyncio.TaskGroup, queue: PartitionQueue) -> asyncio.Task[None]:
        task = tasks.create_task(self._commit_finished(queue), name=f"detector-commit-{queue.partition}")
        self._busy[queue] = task
        task.add_done_callback(lambda _: self._remove_task(queue))
        return task

    def _remove_task(self, queue: PartitionQueue) -> None:
        del self._busy[queue]
        self._in_progress.finished.set()

    async def _commit_finished(self, queue: PartitionQueue) -> None:
        """Commit the finished prefix of ``queue``, however often it has to be tried."""
        commit = queue.next_commit(self._max_records)
        if commit is None:
            return
        try:
            if not await self._commit(queue, commit):
                await self._commit_one_by_one(queue, len(commit.pending))
        except StoppedError as stopped:
            self._given_up.add(queue)
            logger.warning(
                "frames of a partition are left to the next worker: %s", stopped, extra={"partition": queue.partition}
            )
        finally:
            self._in_progress.release(queue, self)

    async def _commit(self, queue: PartitionQueue, commit: Commit) -> bool:
        """Commit ``commit``, or drop it when its partition is lost; return False when a record is too large."""
        start = time.perf_counter()

        async def hold() -> None:
            self._in_progress.hold(queue, self)

        try:
            await self._context.retry(
                lambda: self._consumer.commit(commit.points, commit.outputs),
                f"commit detections of partition {queue.partition}",
                hold,
            )
        except PartitionLostError as lost:
            await self._drop_lost_partitions(queue, commit, lost)
            return True
        except RecordTooLargeError as error:
            logger.warning(
                "the broker finds a record too large: %s", error_text(error), extra={"partition": queue.partition}
            )
            return False
        self._in_progress.remove_committed(queue, commit)
        self._count(commit, time.perf_counter() - start)
        return True

    async def _commit_one_by_one(self, queue: PartitionQueue, count: int) -> None:
        """Find the record whose outputs are too large, and commit its smaller outcome instead."""
        backoff, what = Backoff(self._context.policy), f"commit smaller records of partition {queue.partition}"
        try:
            while count > 0 and (commit := queue.next_commit(1)) is not None:
                if await self._commit(queue, commit):
                    count -= 1
                    continue
                (pending,) = commit.pending
                smaller = pending.outcome.smaller if pending.outcome is not None else None
                if smaller is not None:
                    self._in_progress.finish(queue, pending, smaller())
                    continue
                self._in_progress.hold(queue, self)
                topics = sorted({output.topic for output in commit.outputs})
                self._context.health.set_waiting(
                    what,
                    f"{what}: {', '.join(topics)} does not take even the smallest record for this frame; raise "
                    "max_message_bytes in topics.yaml and run `standgale topics apply`",
                )
                if not await backoff.wait(self._context.stop):
                    raise StoppedError("a record that its topic finds too large was left because the process stops")
        finally:
            self._context.health.clear_waiting(what)

    def _count(self, commit: Commit, duration_s: float) -> None:
        """Add what was committed to the metrics."""
        group = self._context.group
        COMMIT_DURATION.labels(group).observe(duration_s)
        for pending in commit.pending:
            topic, outcome = pending.source.topic, pending.outcome
            RECORDS_CONSUMED.labels(group, topic).inc(pending.record_count)
            if outcome is None:
                continue
            if outcome.dead_reason is not None:
                RECORDS_DEAD.labels(group, topic, outcome.dead_reason).inc()
            if outcome.count is not None:
                outcome.count()

    async def _drop_lost_partitions(self, queue: PartitionQueue, commit: Commit, lost: PartitionLostError) -> None:
        """Drop the records of ``commit`` that another worker owns now; nothing was committed, the rest is retried."""
        owned = self._consumer.assignment()
        lost_sources = [source for source, point in commit.points.items() if owned.get(source) != point.epoch]
        logger.info("a partition went to another worker", extra={"partition": queue.partition, "reason": str(lost)})
        PARTITIONS_LOST.labels(self._context.group).inc(len(lost_sources))
        self._in_progress.drop_lost(queue, lost_sources)
        if not lost_sources:
            # The adapter has not learned the new assignment yet; dropping frames that are ours would lose them.
            await asyncio.sleep(_LOST_PAUSE_S)
