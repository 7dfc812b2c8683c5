"""The detector service: opens what a worker needs, has a first model ready, and joins the group.

What happens from then on is in :mod:`detectors.worker.group_session`: frames are polled, processed and committed, each
detections event together with its offset. A fault outside of a frame stops the commits, never drops a frame; what fails
by itself goes to ``frames.dead``; a lost partition's work is forgotten, its new owner does it again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from detectors.model.loading import LoadRequest
from detectors.model.predict import Model
from detectors.settings import DetectorSettings
from detectors.worker.frames.frame_attempt import Answerer
from detectors.worker.group_session import Life, beside
from detectors.worker.partitions.queue_opener import WindowSource
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.quarantine.quarantine import Guard, Guarding, NoGuard
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_process import Apart
from detectors.worker.rollout.model_loader import ModelSource, Obtainer
from detectors.worker.rollout.reporting import Place
from detectors.worker.rollout.rollout import Rollout
from infra.broker.port import Broker, GroupSpec, Reader
from infra.errors import StoreUnavailableError
from infra.failure.retry import ConsumerContext, StoppedError
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.frames.port import FrameStore
from schemas import topics

logger = logging.getLogger(__name__)

GROUP = "detector"
_SHORTEST_TRIAL_S = 10.0


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
    former_counts: how many partitions the topics of frames and answers had before each growth, the newest first.
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
    former_counts: tuple[int, ...] = ()


class DetectorWorker:
    """A member of the detector group, as a component of the process it runs in."""

    name = "detector"

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Answer frames until ``stop`` is set; then finish and commit what is under way, and leave the group."""
        health.set_not_ready("loading the model")
        parts = self._parts
        work = ConsumerContext(parts.retry, stop, health, GROUP)
        try:
            async with AsyncExitStack() as stack:
                guard = await self._guard(work)
                stack.push_async_callback(guard.close)
                rollout, news = await self._first_model(stack, work, guard)
                reader = await work.retry(parts.broker.reader, "connect to the broker")
                stack.push_async_callback(reader.close)
                spec = GroupSpec(GROUP, topics.FRAME_TOPICS, instance_id=parts.instance_id, outputs=True)
                consumer = await work.retry(lambda: parts.broker.consumer(spec), "join the detector group")
                stack.push_async_callback(consumer.close)
                health.set_ready()
                windows = WindowSource(reader, parts.settings.duplicate_window, parts.former_counts)
                answerer = Answerer(parts.store, GROUP, parts.max_answer_bytes, guard)
                life = Life(parts.settings, work, consumer, windows, answerer, rollout.roster, rollout.now)
                if news is not None:
                    await stack.enter_async_context(beside(rollout.run(news)))
                await life.until_drained()
        except* StoppedError as stopped:
            # Stopped while something was waited for: what was under way is not committed, and is done again.
            logger.warning("stopped with work under way: %s", stopped.exceptions[0])

    async def _guard(self, work: ConsumerContext) -> Guarding:
        """The guard of this worker's engines; waits while its files cannot be written."""
        quarantine = self._parts.quarantine
        if quarantine is None:
            return NoGuard()
        folder = quarantine.folder

        async def open_suspects() -> Suspects:
            try:
                return Suspects(folder)
            except OSError as error:
                raise StoreUnavailableError(
                    f"{folder}: cannot be written to ({error}); free some space, or correct data_dir"
                ) from error

        suspects = await work.retry(open_suspects, "note frames on disk")
        trials = Apart(max(work.health.silence_s, _SHORTEST_TRIAL_S))
        return Guard(suspects, quarantine.request, self._parts.settings.max_pixels, trials)

    async def _first_model(
        self, stack: AsyncExitStack, work: ConsumerContext, guard: Guarding
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
        publisher = await work.retry(parts.broker.publisher, "connect to the broker")
        stack.push_async_callback(publisher.close)
        news = await work.retry(parts.broker.reader, "connect to the broker")
        stack.push_async_callback(news.close)
        await stack.enter_async_context(rollout.telling(publisher))
        await rollout.read(news, publisher)
        await rollout.begin(news)
        return rollout, news
