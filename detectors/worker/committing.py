"""The commit loop of the detector: each lane's finished prefix, its answers and offsets in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from detectors.worker.flow import Flow
from detectors.worker.lanes import Commit, Lane
from infra.broker.port import Consumer
from infra.errors import PartitionLostError
from infra.failure import Work
from infra.telemetry import metrics

logger = logging.getLogger(__name__)

_LOST_PAUSE_S = 0.05
_LOOK_AGAIN_S = 0.5


class Committer:
    """Commits what the flow says is finished. Lanes commit side by side; one lane never twice at a time."""

    def __init__(self, flow: Flow, consumer: Consumer, work: Work, *, interval_s: float, max_entries: int) -> None:
        self._flow = flow
        self._consumer = consumer
        self._work = work
        self._interval_s = interval_s
        self._max_entries = max_entries

    async def run(self, drained: Callable[[], bool]) -> None:
        """Commit as frames finish, until ``drained`` says that no more will and nothing is left."""
        while True:
            done = await self.commit_ready()
            if not done and drained():
                return
            if done:
                # A short pause lets more frames finish, so that a transaction carries several under load.
                await asyncio.sleep(self._interval_s)
                continue
            try:
                await asyncio.wait_for(self._flow.finished.wait(), _LOOK_AGAIN_S)
            except TimeoutError:
                continue

    async def commit_ready(self) -> bool:
        """One transaction for each lane that has a finished prefix; whether there was any."""
        self._flow.finished.clear()
        ready = [(lane, commit) for lane in self._flow.lanes if (commit := lane.ready(self._max_entries))]
        await asyncio.gather(*(self._commit(lane, commit) for lane, commit in ready))
        return bool(ready)

    async def _commit(self, lane: Lane, commit: Commit) -> None:
        start = time.perf_counter()
        try:
            await self._work.retrying(lambda: self._consumer.commit(commit.progress, commit.outputs), "commit answers")
        except PartitionLostError as lost:
            await self._forget(lane, commit, lost)
            return
        self._flow.committed(lane, commit)
        self._count(commit, time.perf_counter() - start)

    def _count(self, commit: Commit, duration_s: float) -> None:
        """Count what stands now."""
        group = self._work.group
        metrics.COMMIT_DURATION.labels(group).observe(duration_s)
        for entry in commit.entries:
            metrics.RECORDS_CONSUMED.labels(group, entry.record.topic).inc()
            if entry.refused is not None:
                metrics.RECORDS_DEAD.labels(group, entry.record.topic, entry.refused).inc()
            if entry.count is not None:
                entry.count()

    async def _forget(self, lane: Lane, commit: Commit, lost: PartitionLostError) -> None:
        """Nothing was committed. Forget what belongs to others now; what does not is tried again."""
        owned = self._consumer.assignment()
        gone = [source for source, progress in commit.progress.items() if owned.get(source) != progress.epoch]
        logger.info("partitions went to another worker", extra={"lane": lane.number, "reason": str(lost)})
        metrics.PARTITIONS_LOST.labels(self._work.group).inc(len(gone))
        self._flow.lost(lane, gone)
        if not gone:
            # The adapter has not learned the new assignment yet; dropping frames that are ours would lose them.
            await asyncio.sleep(_LOST_PAUSE_S)
