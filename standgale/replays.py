"""Opens what a replay needs from the settings, runs it, and closes it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import start_http_server

from detectors.worker.rollout.models_topic import read_models
from detectors.worker.worker import GROUP
from infra.broker.port import Admin, Broker, Reader
from infra.broker.reading import opened_reader, respond_within
from infra.errors import SettingsError
from infra.storage.frames.open import open_frame_store
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.parts import AcceptanceParts
from ingest.readiness.clock import GatewayClock
from ingest.replay.checkpoint import FILE, Checkpoint, open_checkpoint
from ingest.replay.errors import CheckpointError
from ingest.replay.frames import FrameMaker
from ingest.replay.identity import begin, begin_again, checkpoint_folder
from ingest.replay.open import SourceOptions, open_source
from ingest.replay.pace import BacklogGate, Rate
from ingest.replay.port import Source
from ingest.replay.progress import Progress
from ingest.replay.replay import Replay, ReplayParts
from ingest.replay.report import ReplayResult, make_result, write_report
from ingest.replay.sources.topic import TopicSource
from ingest.replay.tail import BackfillTail
from schemas.event_base import ModelRef
from schemas.model_events import WorkerAvailability
from schemas.timestamps import format_utc, utc_now
from schemas.topics import FRAMES_BACKFILL, load_topics
from standgale.opening import open_command_broker
from standgale.settings import Settings


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """Holds what the command line asks for."""

    address: str | None
    """Of the source; None: a topic"""
    device: str | None
    name: str | None = None
    topic: str = ""
    since: datetime | None = None
    until: datetime | None = None
    model: ModelRef | None = None
    every: int = 1
    start: datetime | None = None
    dry: bool = False
    again: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class AlreadyDone:
    """Says that the checkpoint is complete, so that nothing was done."""

    name: str
    finished_at: str
    accepted: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Holds what is open for one replay."""

    settings: Settings
    request: ReplayRequest
    broker: Broker
    reader: Reader
    progress: Progress
    stack: AsyncExitStack


async def run_replay(settings: Settings, request: ReplayRequest, progress: Progress) -> ReplayResult | AlreadyDone:
    """Replay what ``request`` asks for; may be cancelled at any moment. Raises StandgaleError."""
    async with AsyncExitStack() as stack:
        if settings.replay.metrics_port is not None:
            stack.callback(_serve_metrics(settings.replay.metrics_port))
        # Before the broker: a wrong path is the likelier error.
        source = await _open_files(settings, request, stack)
        broker = await stack.enter_async_context(open_command_broker(settings, make=False))
        timeout_s = settings.replay.broker_timeout_s
        reader = await stack.enter_async_context(opened_reader(broker.reader(), timeout_s))
        run = _Run(settings, request, broker, reader, progress, stack)
        if request.model is not None:
            await _require_model(run, request.model)
        extra = {"device": request.device, "model": _model_text(request.model)}
        identity = {**(_topic_identity(request) if source is None else source.identity), **extra}
        folder = checkpoint_folder(settings.data_dir, request.name, identity)
        if request.dry:
            return await _look(run, source, folder)
        checkpoint = stack.enter_context(open_checkpoint(folder, restart=request.restart))
        if source is None:
            source = await _open_checkpointed_topic(run, checkpoint)
        begin(checkpoint, {**source.identity, **extra})
        if (finished_at := checkpoint.state.finished_at) is not None:
            if not request.again:
                return AlreadyDone(folder.name, finished_at, checkpoint.state.accepted)
            begin_again(checkpoint)
        parts = await _parts(run, source, checkpoint, checkpoint)
        try:
            await Replay(parts).run()
        except BaseException:
            # The first error says what to do; on a full disk the report fails, too.
            with suppress(CheckpointError):
                write_report(checkpoint, progress)
            raise
        return write_report(checkpoint, progress)


async def _look(run: _Run, source: Source | None, folder: Path) -> ReplayResult:
    """Read the whole source, and return what a replay would do; nothing is kept."""
    source = source or await _open_topic(run, {})
    with tempfile.TemporaryDirectory(prefix="standgale-dry-run-") as scratch:
        checkpoint = run.stack.enter_context(open_checkpoint(Path(scratch) / "checkpoint"))
        with _existing(folder, checkpoint) as sent:
            await Replay(await _parts(run, source, checkpoint, sent)).run()
            return make_result(folder.name, checkpoint, run.progress)


@contextmanager
def _existing(folder: Path, otherwise: Checkpoint) -> Iterator[Checkpoint]:
    if not (folder / FILE).exists():
        yield otherwise
        return
    with open_checkpoint(folder) as checkpoint:
        yield checkpoint


async def _open_files(settings: Settings, request: ReplayRequest, stack: AsyncExitStack) -> Source | None:
    """Return the source at the address; None for a topic."""
    if request.address is None:
        return None
    options = SourceOptions(
        settings.replay,
        settings.replay_s3,
        settings.replay_lakefs,
        settings.video,
        settings.gateway.max_image_bytes,
        request.every,
        request.start,
    )
    source = await asyncio.to_thread(open_source, request.address, options)
    stack.push_async_callback(source.close)
    return source


def _topic_identity(request: ReplayRequest) -> dict[str, str | int | None]:
    """Return what names the checkpoint of a topic: the times that were given."""
    times = {"since": request.since, "until": request.until}
    given = {key: None if moment is None else format_utc(moment) for key, moment in times.items()}
    return {"kind": "topic", "address": request.topic, **given}


async def _open_checkpointed_topic(run: _Run, checkpoint: Checkpoint) -> Source:
    """Return the topic; with --again, one without --to ends now, so that frames that came since are in it."""
    state, request = checkpoint.state, run.request
    if not (request.again and request.until is None and state.finished_at is not None):
        return await _open_topic(run, state.identity)
    source = await _open_topic(run, {})
    state.identity["until"] = source.identity["until"]
    return source


async def _open_topic(run: _Run, before: Mapping[str, str | int | None]) -> Source:
    """Return the topic; without an end in the request it ends where its checkpoint says, else now."""
    request = run.request
    assert request.since is not None
    until = request.until or (datetime.fromisoformat(str(before["until"])) if "until" in before else utc_now())
    timeout_s = run.settings.replay.broker_timeout_s
    source = TopicSource(run.reader, request.topic, request.since, until, request.device, timeout_s)
    run.progress.notes += await source.deleted_before()
    return source


async def _parts(run: _Run, source: Source, checkpoint: Checkpoint, sent: Checkpoint) -> ReplayParts:
    settings, stack, dry = run.settings, run.stack, run.request.dry
    timeout_s = settings.replay.broker_timeout_s
    partitions = load_topics(settings.topics_file)[FRAMES_BACKFILL].partitions
    publisher = await respond_within(run.broker.publisher(), timeout_s, "opening a publisher")
    stack.push_async_callback(publisher.close)
    admin = await respond_within(run.broker.admin(), timeout_s, "opening an administrator")
    stack.push_async_callback(admin.close)
    store = open_frame_store(settings.frames, settings.data_dir)
    stack.push_async_callback(store.close)
    clock = GatewayClock.without_broker()
    clock.set_difference(publisher.clock_ahead_s())
    acceptance = Acceptance(
        AcceptanceParts(settings.gateway, _NoTokens(), store, publisher, frame_partitions=partitions, clock=clock)
    )
    replay, progress = settings.replay, run.progress
    return ReplayParts(
        replay,
        source,
        acceptance,
        BackfillTail(run.reader, partitions, timeout_s),
        checkpoint,
        FrameMaker(
            acceptance,
            run.request.device,
            settings.gateway.max_metadata_bytes,
            sent.is_sent,
            bytes_rate=Rate(replay.max_bytes_per_s),
            dry=dry,
        ),
        _gate(admin, 0 if dry else replay.max_backlog, settings, progress),
        progress,
        dry,
    )


def _gate(admin: Admin, most: int, settings: Settings, progress: Progress) -> BacklogGate:
    async def backlog() -> int:
        call = admin.group_lag(GROUP, [FRAMES_BACKFILL])
        found = await respond_within(call, settings.replay.broker_timeout_s, "reading the backlog")
        return sum(found.values())

    return BacklogGate(
        backlog, most, settings.replay.backlog_interval_s, lambda reason: progress.wait("backlog", reason)
    )


async def _require_model(run: _Run, model: ModelRef) -> None:
    """Raise SettingsError unless the frames of the replay go to ``model``: frame events cannot name a version."""
    lane, device = run.settings.detector.lane, run.request.device
    models = await read_models(run.reader)
    activation = models.activations.get(lane)
    if activation is not None:
        canary = activation.canary
        if canary is not None and device in canary.devices:
            used: ModelRef | None = canary.model
        elif canary is not None and canary.share > 0:
            raise SettingsError(
                f"--model: lane {lane} divides frames between {_model_text(activation.stable)} and "
                f"{_model_text(canary.model)}; end the canary first, or make {device} one of its devices: standgale "
                "model activate"
            )
        else:
            used = activation.stable
    else:
        used = None
    if used != model:
        wanted = f"{model.name} {model.version}"
        raise SettingsError(
            f"--model is {_model_text(model)}, but the workers of lane {lane} use "
            f"{_model_text(used) or 'the model of detector.model'} for these frames. A frame cannot choose its model: "
            f"activate it first (standgale model activate {wanted}), or only for the device of this replay (standgale "
            f"model activate {wanted} --canary-device {device or 'DEVICE'}), then replay; frames that another version "
            "has detected get new detections"
        )
    lacking = [_lacks(one, model) for one in models.live_workers(lane, utc_now()) if not _serves(one, model)]
    if lacking:
        raise SettingsError(
            f"--model is {_model_text(model)}, which is activated, but not all workers of lane {lane} use it: "
            f"{'; '.join(lacking[:5])}. Replay when they do: standgale model status"
        )


def _serves(worker: WorkerAvailability, model: ModelRef) -> bool:
    return any(one.serving and one.model == model for one in worker.models)


def _lacks(worker: WorkerAvailability, model: ModelRef) -> str:
    """Return which worker does not use ``model``, and why."""
    found = next((one for one in worker.models if one.model == model), None)
    return f"{worker.worker} ({'it has not read the activation' if found is None else found.detail or found.state})"


def _serve_metrics(port: int) -> Callable[[], None]:
    """Show the metrics of this process on a port; return what ends that. Raises SettingsError when it is taken."""
    try:
        server, thread = start_http_server(port, "127.0.0.1")
    except OSError as error:
        raise SettingsError(
            f"replay.metrics_port (STANDGALE_REPLAY__METRICS_PORT) is {port}, which cannot be used: {error.strerror}"
        ) from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def _model_text(model: ModelRef | None) -> str | None:
    return None if model is None else f"{model.name}@{model.version}"


class _NoTokens:
    """Verifies no token: an operator replays, not a device."""

    def verify(self, token: str) -> None:
        """Return None."""
        del token

    async def look_up(self, token: str) -> None:
        """Find nothing."""
        del token
