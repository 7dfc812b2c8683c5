"""Runs the detector service: opens its connections, loads a first model, and joins the group.

After that :mod:`detectors.worker.group_session` polls frames, processes them, and commits each detections event
together with its offset. An error that is not a frame's own stops the commits and never drops a frame. A frame that
fails while others succeed goes to ``frames.dead``. The work on a lost partition is dropped; its new owner repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from detectors.model.loading import LoadRequest
from detectors.model.predict import Model
from detectors.settings import DetectorSettings
from detectors.worker.frames.frame_attempt import FrameAttempt
from detectors.worker.frames.frame_rules import FrameRules, RulesParts
from detectors.worker.group_session import GroupSession, run_beside
from detectors.worker.partitions.queue_opener import WindowSource
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.quarantine.quarantine import NoQuarantine, Quarantine, QuarantinePort
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_process import TrialProcess
from detectors.worker.rollout.job_models import JobModels, NoJobModels
from detectors.worker.rollout.model_loader import ModelLoader, ModelSource
from detectors.worker.rollout.reporting import WorkerIdentity
from detectors.worker.rollout.rollout import Rollout
from infra.broker.port import Broker, GroupSpec, Reader
from infra.errors import StoreUnavailableError
from infra.failure.retry import ConsumerContext, StoppedError, run_until_stop
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from infra.storage.frames.port import FrameStore
from schemas import topics

logger = logging.getLogger(__name__)

GROUP = "detector"
_SHORTEST_TRIAL_S = 10.0


@dataclass(frozen=True, slots=True)
class QuarantineParts:
    """Defines what a quarantine needs."""

    folder: Path
    """Shared by the workers of a machine."""
    request: LoadRequest
    """How the model of the worker's own setting is loaded."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """Defines the parts that a worker needs; the process builds them at start."""

    broker: Broker
    store: FrameStore
    load_model: Callable[[], Model]
    """Loads the model of the worker's own setting, in a thread; called when no other model is activated."""
    settings: DetectorSettings
    retry: RetrySettings
    max_event_bytes: int
    """The largest record that the topic ``detections`` takes."""
    instance_id: str | None = None
    models: ModelSource | None = None
    """Where other model versions come from; None: only the worker's own model is used, and no report is published."""
    quarantine: QuarantineParts | None = None
    """How frames that crash an engine are found; None: they are not found."""
    rules: RulesParts | None = None
    """How rules are applied to detections; None: not at all."""
    former_counts: tuple[int, ...] = ()
    """How many partitions the frame topics and ``detections`` had before each growth, the newest first."""


class DetectorWorker:
    """Runs a member of the detector group as a component of a process."""

    name = "detector"

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Process frames until ``stop`` is set; then finish and commit the frames in progress, and leave the group."""
        health.set_not_ready("loading the model")
        parts = self._parts
        context = ConsumerContext(parts.retry, stop, health, GROUP)
        try:
            async with AsyncExitStack() as stack:
                quarantine = await self._open_quarantine(context)
                stack.push_async_callback(quarantine.close)
                loader = self._model_loader(quarantine)
                rollout, models_reader = await self._first_model(stack, context, loader)
                job_models = self._job_models(loader, rollout, context)
                stack.push_async_callback(job_models.close)
                reader = await context.retry(parts.broker.reader, "connect to the broker")
                stack.push_async_callback(reader.close)
                spec = GroupSpec(GROUP, topics.FRAME_TOPICS, instance_id=parts.instance_id, outputs=True)
                consumer = await context.retry(lambda: parts.broker.consumer(spec), "join the detector group")
                stack.push_async_callback(consumer.close)
                health.set_ready()
                windows = WindowSource(reader, parts.settings.duplicate_window, parts.former_counts)
                rules = FrameRules(parts.rules)
                stack.push_async_callback(rules.close)
                await rules.prepare(rollout.roster.stable.model)
                attempt = FrameAttempt(parts.store, GROUP, parts.max_event_bytes, quarantine, rules)
                session = GroupSession(
                    parts.settings, context, consumer, windows, attempt, rollout.roster, job_models, rollout.now
                )
                if models_reader is not None:
                    await stack.enter_async_context(run_beside(rollout.run(models_reader)))
                await session.until_drained()
        except* StoppedError as stopped:
            # Stopped during a wait: frames in progress are not committed, and the next worker repeats them.
            logger.warning("the worker stopped before its work was done: %s", stopped.exceptions[0])

    async def _open_quarantine(self, context: ConsumerContext) -> QuarantinePort:
        """Open the quarantine of this worker's engines; waits while its files cannot be written."""
        parts = self._parts.quarantine
        if parts is None:
            return NoQuarantine()
        folder = parts.folder

        async def open_suspects() -> Suspects:
            try:
                return Suspects(folder)
            except OSError as error:
                raise StoreUnavailableError(
                    f"{folder}: cannot be written to ({error}); free some space, or correct data_dir"
                ) from error

        suspects = await context.retry(open_suspects, "note frames on disk")
        trials = TrialProcess(max(context.health.silence_s, _SHORTEST_TRIAL_S))
        return Quarantine(suspects, parts.request, self._parts.settings.max_pixels, trials)

    def _model_loader(self, quarantine: QuarantinePort) -> ModelLoader:
        parts, settings = self._parts, self._parts.settings
        pipeline = partial(
            InferencePipeline,
            host_threads=settings.fetch_threads,
            max_pixels=settings.max_pixels,
            max_decode_s=settings.max_decode_s,
        )
        return ModelLoader(parts.load_model, parts.models, pipeline, quarantine)

    def _job_models(self, loader: ModelLoader, rollout: Rollout, context: ConsumerContext) -> JobModels | NoJobModels:
        if self._parts.models is None:
            return NoJobModels()
        return JobModels(loader, self._parts.settings.job_models, context, lambda: rollout.roster.all_models)

    async def _first_model(
        self, stack: AsyncExitStack, context: ConsumerContext, loader: ModelLoader
    ) -> tuple[Rollout, Reader | None]:
        """Return a roll-out whose first model is loaded, and the reader it follows; ``stack`` closes both."""
        parts, settings = self._parts, self._parts.settings
        worker = parts.instance_id or f"{socket.gethostname()}-{uuid4().hex[:8]}"
        identity = WorkerIdentity(settings.lane, worker, settings.report_interval_s)
        rollout = Rollout(identity, loader, context)
        stack.push_async_callback(rollout.close)
        if parts.models is None:
            await self._until_stopped(rollout.load_first_model(), context)
            return rollout, None
        publisher = await context.retry(parts.broker.publisher, "connect to the broker")
        stack.push_async_callback(publisher.close)
        models_reader = await context.retry(parts.broker.reader, "connect to the broker")
        stack.push_async_callback(models_reader.close)
        await stack.enter_async_context(rollout.publishing_reports(publisher))
        await rollout.read_state(models_reader, publisher)
        await self._until_stopped(rollout.load_first_model(models_reader), context)
        return rollout, models_reader

    @staticmethod
    async def _until_stopped(loading: Coroutine[None, None, None], context: ConsumerContext) -> None:
        """Wait for ``loading``, which may take minutes; raises StoppedError as soon as the process stops."""
        await run_until_stop(loading, context.stop, "loading the model", timeout_s=0.0)
