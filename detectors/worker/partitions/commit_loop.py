"""The commit loop of the detector: each lane's finished prefix, its answers and offsets in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from detectors.worker.partitions.frames_in_progress import Flow
from detectors.worker.partitions.partition_queue import Commit, Lane
from infra.broker.port import Consumer
from infra.consuming.metrics import COMMIT_DURATION, PARTITIONS_LOST, RECORDS_CONSUMED
from infra.errors import PartitionLostError, RecordTooLargeError
from infra.failure.error_texts import error_text
from infra.failure.metrics import RECORDS_DEAD
from infra.failure.retry import Backoff, ConsumerContext, StoppedError

logger = logging.getLogger(__name__)

_LOST_PAUSE_S = 0.05
_LOOK_AGAIN_S = 0.5
# How long a round waits for its commits; one that takes longer goes on by itself.
_ROUND_S = 0.5


class Committer:
    """Commits what the flow says is finished. Lanes commit side by side, in rounds; one lane never twice at a time.

    A lane whose commit is refused waits and is held; it is in no round meanwhile, so the others never wait for it.
    """

    def __init__(
        self, flow: Flow, consumer: Consumer, work: ConsumerContext, *, interval_s: float, max_entries: int
    ) -> None:
        self._flow = flow
        self._consumer = consumer
        self._work = work
        self._interval_s = interval_s
        self._max_entries = max_entries
        self._busy: dict[Lane, asyncio.Task[None]] = {}
        self._given_up: set[Lane] = set()

    async def run(self, drained: Callable[[], bool]) -> None:
        """Commit as frames finish, until ``drained`` says that no more will and nothing is left."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                # Asked first: what finishes just before the end is looked for after it.
                is_drained = drained()
                self._flow.finished.clear()
                started = [self._start(tasks, lane) for lane in self._flow.lanes if self._has_work(lane)]
                if started:
                    await asyncio.wait(started, timeout=_ROUND_S)
                    # A short pause lets more frames finish, so that a transaction carries several under load.
                    await asyncio.sleep(self._interval_s)
                elif is_drained and not self._busy:
                    return
                else:
                    await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._flow.finished.wait()
        except TimeoutError:
            return

    def _has_work(self, lane: Lane) -> bool:
        return lane not in self._busy and lane not in self._given_up and lane.ready(1) is not None

    def _start(self, tasks: asyncio.TaskGroup, lane: Lane) -> asyncio.Task[None]:
        task = tasks.create_task(self._commit_ready(lane), name=f"detector-commit-{lane.number}")
        self._busy[lane] = task
        task.add_done_callback(lambda _: self._done(lane))
        return task

    def _done(self, lane: Lane) -> None:
        del self._busy[lane]
        self._flow.finished.set()

    async def _commit_ready(self, lane: Lane) -> None:
        """Commit the finished prefix of ``lane``, however often it has to be tried."""
        commit = lane.ready(self._max_entries)
        if commit is None:
            return
        try:
            if not await self._commit(lane, commit):
                await self._commit_one_by_one(lane, len(commit.entries))
        except StoppedError as stopped:
            self._given_up.add(lane)
            logger.warning("work of a lane is left to the next worker: %s", stopped, extra={"lane": lane.number})
        finally:
            self._flow.go_on(lane, self)

    async def _commit(self, lane: Lane, commit: Commit) -> bool:
        """Whether ``commit`` is done with; False when the broker finds something in it too large."""
        start = time.perf_counter()

        async def hold() -> None:
            self._flow.hold(lane, self)

        try:
            await self._work.retry(
                lambda: self._consumer.commit(commit.progress, commit.outputs),
                f"commit answers of lane {lane.number}",
                hold,
            )
        except PartitionLostError as lost:
            await self._forget(lane, commit, lost)
            return True
        except RecordTooLargeError as error:
            logger.warning("the broker finds a record too large: %s", error_text(error), extra={"lane": lane.number})
            return False
        self._flow.committed(lane, commit)
        self._count(commit, time.perf_counter() - start)
        return True

    async def _commit_one_by_one(self, lane: Lane, count: int) -> None:
        """Find the entry whose records are too large, and commit what there is of it in smaller instead."""
        backoff, what = Backoff(self._work.policy), f"commit smaller records of lane {lane.number}"
        try:
            while count > 0 and (commit := lane.ready(1)) is not None:
                if await self._commit(lane, commit):
                    count -= 1
                    continue
                (entry,) = commit.entries
                smaller = entry.outcome.smaller if entry.outcome is not None else None
                if smaller is not None:
                    self._flow.settle(lane, entry, smaller())
                    continue
                self._flow.hold(lane, self)
                topics = sorted({output.topic for output in commit.outputs})
                self._work.health.set_waiting(
                    what,
                    f"{what}: {', '.join(topics)} takes not even the smallest record that tells of this frame; raise "
                    "max_message_bytes in topics.yaml and run `standgale topics apply`",
                )
                if not await backoff.wait(self._work.stop):
                    raise StoppedError("a record that its topic finds too large was left because the process stops")
        finally:
            self._work.health.clear_waiting(what)

    def _count(self, commit: Commit, duration_s: float) -> None:
        """Count what has been committed."""
        group = self._work.group
        COMMIT_DURATION.labels(group).observe(duration_s)
        for entry in commit.entries:
            topic, outcome = entry.source.topic, entry.outcome
            RECORDS_CONSUMED.labels(group, topic).inc(entry.records)
            if outcome is None:
                continue
            if outcome.refused is not None:
                RECORDS_DEAD.labels(group, topic, outcome.refused).inc()
            if outcome.count is not None:
                outcome.count()

    async def _forget(self, lane: Lane, commit: Commit, lost: PartitionLostError) -> None:
        """Nothing was committed. Forget what belongs to others now; what does not is tried again."""
        owned = self._consumer.assignment()
        gone = [source for source, progress in commit.progress.items() if owned.get(source) != progress.epoch]
        logger.info("partitions went to another worker", extra={"lane": lane.number, "reason": str(lost)})
        PARTITIONS_LOST.labels(self._work.group).inc(len(gone))
        self._flow.lost(lane, gone)
        if not gone:
            # The adapter has not learned the new assignment yet; dropping frames that are ours would lose them.
            await asyncio.sleep(_LOST_PAUSE_S)
