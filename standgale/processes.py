"""The processes Standgale runs as: one per service in production, all in one on a laptop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from detectors.engines.host import settle_process
from detectors.model.artefact_model import upgraded_model
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.worker.rollout.model_loader import ModelSource, OnState
from detectors.worker.worker import DetectorWorker, Quarantine, WorkerParts
from infra.consuming.consumer_loop import SinkRunner
from infra.consuming.port import Sink
from infra.failure.retry import StoppedError, retry
from infra.plugins import plugin_names
from infra.process.components import Component
from infra.process.health import HealthPart
from infra.process.http_server import HttpComponent
from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts
from schemas import topics
from schemas.documents import documents
from sinks.postgres.sink import PostgresSink
from sinks.sse.http import STREAM_PATH, create_sse_app, sse_routes
from sinks.sse.hub import DetectionHub
from standgale.composition import Composition
from standgale.plugins import SINK_PLUGINS, make_sink
from standgale.schema import SchemaKeeper
from standgale.settings import Settings


async def run_up(settings: Settings) -> int:
    """Run all services in one process and keep its schema up to date, so a laptop user needs no second command."""
    async with Composition(settings, "standgale") as process:
        schema = SchemaKeeper(process.database(), settings.retry)
        await schema.try_once()
        hub = _hub(process)
        return await process.run(
            [
                schema,
                process.verifier(),
                *process.probes(),
                hub,
                _Gateway(process, hub),
                _detector(process, None),
                _postgres(process, None),
            ]
        )


async def run_gateway(settings: Settings) -> int:
    """The HTTP edge alone."""
    async with Composition(settings, "gateway") as process:
        return await process.run([process.verifier(), *process.probes(), _Gateway(process)])


async def run_detector(settings: Settings, instance_id: str | None) -> int:
    """One detector worker."""
    async with Composition(settings, "detector") as process:
        return await process.run([_detector(process, instance_id)])


async def run_sink(settings: Settings, name: str, instance_id: str | None) -> int:
    """Run the sink ``name``: one of SINKS, or a plug-in."""
    async with Composition(settings, f"sink.{name}") as process:
        if name in SINKS:
            return await process.run(SINKS[name](process, instance_id))
        return await process.run([_sink_runner(process, make_sink(name), instance_id)])


def sink_names() -> list[str]:
    """Return the names that ``run_sink`` takes: the sinks that ship, then the plug-ins."""
    return [*SINKS, *(name for name in plugin_names(SINK_PLUGINS) if name not in SINKS)]


class _Gateway:
    """The gateway as a component: it waits for the broker, so that a process can start before its broker does."""

    name = "gateway"

    def __init__(self, process: Composition, hub: DetectionHub | None = None) -> None:
        self._process = process
        self._verifier = process.verifier()
        self._hub = hub

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Serve until ``stop`` is set."""
        settings = self._process.settings
        try:
            publisher = await retry(
                self._process.broker().publisher,
                policy=settings.retry,
                stop=stop,
                health=health,
                what="connecting to the broker",
            )
        except StoppedError:
            return
        try:
            parts = GatewayParts(
                settings.gateway,
                self._verifier,
                self._process.store(),
                publisher,
                self._process.health,
                stream_url=STREAM_PATH if self._hub is not None else None,
                documents=documents(self._process.topics),
                readiness=self._process.readiness(),
                clock=self._process.gateway_clock(),
                frame_partitions=self._process.topics[topics.FRAMES_LIVE].partitions,
            )
            app = create_gateway(parts)
            if self._hub is not None:
                app.router.routes.extend(sse_routes(self._hub))
            await self._serve(app, stop, health)
        finally:
            await publisher.close()

    async def _serve(self, app: FastAPI, stop: asyncio.Event, health: HealthPart) -> None:
        settings = self._process.settings
        server = HttpComponent(
            self.name,
            app,
            host=settings.gateway.host,
            port=settings.gateway.port,
            drain_timeout_s=settings.telemetry.drain_timeout_s,
        )
        await server.run(stop, health)


def _detector(process: Composition, instance_id: str | None) -> Component:
    settle_process()
    settings = process.settings.detector
    wanted = LoadRequest.of(settings, process.settings.engines_folder)
    return DetectorWorker(
        WorkerParts(
            broker=process.broker(),
            store=process.store(),
            load_model=partial(load_model, wanted),
            settings=settings,
            retry=process.settings.retry,
            max_answer_bytes=process.topics[topics.DETECTIONS].max_message_bytes,
            instance_id=instance_id,
            former_counts=process.topics[topics.DETECTIONS].former_counts,
            quarantine=Quarantine(process.settings.data_dir / "detectors", wanted),
            models=_model_source(process, wanted),
        )
    )


def _model_source(process: Composition, wanted: LoadRequest) -> ModelSource:
    store, cache = process.model_store(), process.settings.model_cache

    async def upgrade(card: Path | None, on_state: OnState) -> Model | None:
        request = replace(wanted, card=card or wanted.card)
        return await upgraded_model(request, store, cache, lambda state: on_state(state, None))

    return ModelSource(store, cache, partial(_load_version, wanted), upgrade)


def _load_version(wanted: LoadRequest, card: Path, busy: bool) -> Model:
    """The model of ``card``; what is measured while another model is ``busy`` would be wrong, so then nothing is."""
    return load_model(replace(wanted, card=card, measure_s=0.0 if busy else wanted.measure_s))


def _postgres(process: Composition, instance_id: str | None) -> Component:
    return _sink_runner(process, PostgresSink(process.database()), instance_id)


def _sink_runner(process: Composition, sink: Sink[Any], instance_id: str | None) -> Component:
    settings = process.settings
    return SinkRunner(sink, process.broker(), batches=settings.sinks, retry=settings.retry, instance_id=instance_id)


def _hub(process: Composition) -> DetectionHub:
    settings = process.settings
    grown_from = process.topics[topics.DETECTIONS].grown_from
    return DetectionHub(process.broker(), settings.sse, settings.retry, grown_from=grown_from)


def _sse(process: Composition, instance_id: str | None) -> list[Component]:
    del instance_id  # Every process sees all detections; there is no group to be a member of.
    settings = process.settings
    hub = _hub(process)
    app = create_sse_app(hub, settings.sse)
    return [
        hub,
        HttpComponent(
            "sse",
            app,
            host=settings.sse.host,
            port=settings.sse.port,
            drain_timeout_s=settings.telemetry.drain_timeout_s,
        ),
    ]


SINKS: dict[str, Callable[[Composition, str | None], list[Component]]] = {
    "postgres": lambda process, instance_id: [_postgres(process, instance_id)],
    "sse": _sse,
}
"""The sinks that ship, for `standgale sink NAME`; others are plug-ins, see docs/write-a-sink.md."""
