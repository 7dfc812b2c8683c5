"""The detector service: polls frames, keeps the pipeline full, commits answers together with their offsets.

Three activities run side by side and meet in the flow: the poll loop takes room before it fetches, one task per frame
fetches and answers it, and the commit loop commits each lane's finished prefix. A fault of the world stops the commits,
never drops a frame; what fails by itself goes to ``frames.dead``; a lost partition's work is forgotten, its new owner
does it again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from detectors.loading import LoadRequest
from detectors.predict import Model
from detectors.worker.answering import Answerer
from detectors.worker.answers import answer_key
from detectors.worker.committing import Committer
from detectors.worker.flow import Flow
from detectors.worker.guard import Guard
from detectors.worker.lanes import Entry, Lane
from detectors.worker.lateness import Lateness, is_live, put_off
from detectors.worker.obtaining import ModelSource, Obtainer
from detectors.worker.pipeline import InferencePipeline
from detectors.worker.priorities import PriorityOrder
from detectors.worker.reporting import Place
from detectors.worker.rollout import Rollout
from detectors.worker.serving import Roster, Served
from detectors.worker.suspects import Suspects
from detectors.worker.window import rebuild
from infra.broker.port import Broker, Consumer, GroupSpec, InRecord, Reader, TopicPartition
from infra.errors import TransientError
from infra.failure import StoppedError, Work
from infra.framestore.port import FrameStore
from infra.health import HealthPart
from infra.settings import DetectorSettings, RetrySettings
from infra.telemetry import metrics
from schemas import topics
from schemas.cloudevents import decode
from schemas.errors import EventError
from schemas.events import FrameCaptured
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

GROUP = "detector"
_POLL_TIMEOUT_S = 0.25
_LAG_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Quarantine:
    """``folder``: shared by the workers of a machine; ``request``: how the worker's own model is loaded."""

    folder: Path
    request: LoadRequest


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker stands on.

    load_model: loads the model of the worker's own setting, in a thread; called when no other one is activated.
    models: where other versions come from; None: nothing but that one is ever served, and no report is made.
    quarantine: where frames that crash the engine are known from one worker to the next; None: nothing finds them.
    """

    broker: Broker
    store: FrameStore
    load_model: Callable[[], Model]
    settings: DetectorSettings
    retry: RetrySettings
    max_answer_bytes: int
    instance_id: str | None = None
    models: ModelSource | None = None
    quarantine: Quarantine | None = None


class DetectorWorker:
    """A member of the detector group, as a component of the process it runs in."""

    name = "detector"

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Answer frames until ``stop`` is set; then finish and commit what is under way, and leave the group."""
        health.not_ready("loading the model")
        parts = self._parts
        work = Work(parts.retry, stop, health, GROUP)
        try:
            async with AsyncExitStack() as stack:
                guard = self._guard(stack)
                rollout, news = await self._first_model(stack, work, guard)
                reader = await work.retrying(parts.broker.reader, "connect to the broker")
                stack.push_async_callback(reader.close)
                spec = GroupSpec(GROUP, topics.FRAME_TOPICS, instance_id=parts.instance_id, outputs=True)
                consumer = await work.retrying(lambda: parts.broker.consumer(spec), "join the detector group")
                stack.push_async_callback(consumer.close)
                health.ready()
                answerer = Answerer(parts.store, work, parts.max_answer_bytes, guard)
                serving = _Run(parts.settings, work, consumer, reader, answerer, rollout.roster)
                await _beside(serving.until_drained(), rollout.run(news) if news is not None else None)
        except* StoppedError as stopped:
            # Told to stop while the world was in the way: what was under way was not committed and is done again.
            logger.warning("stopped with work under way: %s", stopped.exceptions[0])

    def _guard(self, stack: AsyncExitStack) -> Guard | None:
        quarantine = self._parts.quarantine
        if quarantine is None:
            return None
        suspects = Suspects(quarantine.folder)
        stack.callback(suspects.close)
        guard = Guard(suspects, quarantine.request, self._parts.settings.max_pixels)
        stack.push_async_callback(guard.apart.close)
        return guard

    async def _first_model(
        self, stack: AsyncExitStack, work: Work, guard: Guard | None
    ) -> tuple[Rollout, Reader | None]:
        """A roll-out that has a model to serve, and where its news comes from; ``stack`` closes both."""
        parts, settings = self._parts, self._parts.settings
        pipeline = partial(InferencePipeline, host_threads=settings.fetch_threads, max_pixels=settings.max_pixels)
        worker = parts.instance_id or f"{socket.gethostname()}-{uuid4().hex[:8]}"
        place = Place(settings.lane, worker, settings.report_interval_s)
        rollout = Rollout(place, Obtainer(parts.load_model, parts.models, pipeline, guard), work)
        stack.push_async_callback(rollout.close)
        if parts.models is None:
            await rollout.begin()
            return rollout, None
        publisher = await work.retrying(parts.broker.publisher, "connect to the broker")
        stack.push_async_callback(publisher.close)
        news = await work.retrying(parts.broker.reader, "connect to the broker")
        stack.push_async_callback(news.close)
        await stack.enter_async_context(rollout.telling(publisher))
        await rollout.read(news, publisher)
        await rollout.begin(news)
        return rollout, news


async def _beside(main: Coroutine[None, None, None], other: Coroutine[None, None, None] | None) -> None:
    """Run ``main`` to its end, and ``other`` meanwhile; when either fails, both end."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(other) if other is not None else None
        await main
        if task is not None:
            task.cancel()


class _Run:
    """One life of a worker, from joining the group to leaving it."""

    def __init__(
        self,
        settings: DetectorSettings,
        work: Work,
        consumer: Consumer,
        reader: Reader,
        answerer: Answerer,
        roster: Roster,
    ) -> None:
        self._settings = settings
        self._work = work
        self._consumer = consumer
        self._reader = reader
        self._answerer = answerer
        self._roster = roster
        self._order = PriorityOrder(topics.FRAME_TOPICS)
        self._flow = Flow(max_frames=settings.prefetch_frames, max_bytes=settings.max_in_flight_bytes)
        self._lateness = Lateness(settings.late_policy, settings.live_deadline_s)
        self._lag_due = 0.0
        self._frames: asyncio.TaskGroup

    async def until_drained(self) -> None:
        """Run the three activities; a bug in one of them ends all, and with them the process."""
        committer = Committer(
            self._flow,
            self._consumer,
            self._work,
            interval_s=self._settings.commit_interval_s,
            max_entries=self._settings.max_batch_frames,
        )
        answered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(committer.run(answered.is_set), name="detector-commit")
            async with asyncio.TaskGroup() as self._frames:
                await self._poll_until_stopped()
            answered.set()

    async def _poll_until_stopped(self) -> None:
        while not self._work.stop.is_set():
            room = self._flow.room()
            if room <= 0:
                await self._flow.wait_for_room(_POLL_TIMEOUT_S)
                continue
            for record in await self._work.retrying(partial(self._poll, room), "poll frames"):
                await self._accept(record)
            self._forget_lost()
            await self._tell_lag()

    async def _poll(self, room: int) -> list[InRecord]:
        """The next records by priority; waits for any topic when all are empty."""
        for topic in self._order.next():
            if records := await self._consumer.poll(max_records=room, timeout_s=0, topics=(topic,)):
                return records
        return await self._consumer.poll(max_records=room, timeout_s=_POLL_TIMEOUT_S)

    async def _accept(self, record: InRecord) -> None:
        """Queue ``record`` in its lane and begin to answer it, unless it is no frame or was answered already."""
        lane = self._flow.lane(record.partition)
        if not lane.knows(record):
            await self._own(lane, record)
        entry = Entry(record)
        self._flow.accept(entry)
        try:
            frame = decode(record.headers, record.value, FrameCaptured)
        except EventError as error:
            model = self._roster.stable.ref.name
            self._flow.finish(entry, self._answerer.refuse(entry, error, attempts=1, model=model))
            return
        served = self._roster.assign(frame)
        entry.answer = answer_key(frame, served.model.card, live=is_live(record))
        if not lane.window.add(entry.answer):
            self._roster.release(served)
            entry.answer = None
            entry.count = metrics.DUPLICATE_FRAMES.inc
            self._flow.finish(entry, ())
            return
        if self._pass_over(entry, frame):
            self._roster.release(served)
            lane.window.forget(entry.answer)
            entry.answer = None
            return
        # Encoded bytes and decoded pixels, three bytes each, are what a frame costs while it is under way.
        needed_bytes = frame.image.size_bytes + 3 * frame.image.width * frame.image.height
        while not self._flow.fits(needed_bytes):
            await self._flow.wait_for_room(_POLL_TIMEOUT_S)
        self._flow.reserve(entry, needed_bytes)
        self._frames.create_task(self._answer(entry, frame, served), name=f"frame-{frame.frame_id}")

    def _pass_over(self, entry: Entry, frame: FrameCaptured) -> bool:
        """Settle ``entry`` without an answer if it is late and the policy is not to answer late frames here."""
        late_s = self._lateness.late_by(entry.record, frame, utc_now())
        if late_s is None:
            return False
        if self._lateness.policy == "put_off":
            entry.count = metrics.FRAMES_LATE.labels("put_off").inc
            self._flow.finish(entry, (put_off(entry.record),))
            return True
        model, error = self._roster.stable.ref.name, self._lateness.error(late_s)
        outputs = self._answerer.refuse(entry, error, attempts=1, model=model)
        entry.count = metrics.FRAMES_LATE.labels("give_up").inc
        self._flow.finish(entry, outputs)
        return True

    async def _answer(self, entry: Entry, frame: FrameCaptured, served: Served) -> None:
        try:
            outputs = await self._answerer.answer(entry, frame, served)
        finally:
            self._flow.release(entry)
            self._roster.release(served)
        if entry.refused is not None and entry.answer is not None:
            self._flow.lane(entry.record.partition).window.forget(entry.answer)
        self._flow.finish(entry, outputs)

    async def _own(self, lane: Lane, record: InRecord) -> None:
        """A new ownership begins with ``record``: what ran under the former one is void, the window is read anew."""
        self._flow.assigned(lane, record.source, record.epoch)
        if self._answerer.guard is not None:
            self._answerer.guard.suspects.look()
        answers = TopicPartition(topics.DETECTIONS, lane.number)
        window = await self._work.retrying(
            lambda: rebuild(self._reader, answers, self._settings.duplicate_window), "read the duplicate window"
        )
        for answer in lane.pending_answers():
            window.add(answer)
        lane.window = window

    async def _tell_lag(self) -> None:
        """Set the lag metrics, every few seconds; they are a courtesy, so a broker that is away just leaves them be."""
        now = time.monotonic()
        if now < self._lag_due:
            return
        self._lag_due = now + _LAG_EVERY_S
        totals = dict.fromkeys(topics.FRAME_TOPICS, 0)
        try:
            for source, lag in (await self._consumer.lag()).items():
                totals[source.topic] += lag
        except TransientError as error:
            logger.debug("no lag from the broker: %s", error)
            return
        for topic, lag in totals.items():
            metrics.CONSUMER_LAG.labels(GROUP, topic).set(lag)

    def _forget_lost(self) -> None:
        """Give back the room of frames whose partitions went to another worker."""
        owned = self._consumer.assignment()
        for lane in self._flow.lanes:
            self._flow.lost(lane, [source for source, epoch in lane.epochs.items() if owned.get(source) != epoch])
