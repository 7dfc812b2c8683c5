"""Runs the gateway as a component of a process."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.types import ASGIApp

from infra.failure.retry import StoppedError
from infra.process.health import HealthPart
from infra.process.http_server import HttpComponent, WebSocketComponent
from ingest.answers.answers import Answers
from ingest.flights.postgres import PostgresFlights
from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts
from ingest.stream.streams import Streams
from schemas import topics
from schemas.documents import documents
from sinks.sse.http import STREAM_PATH, sse_routes
from sinks.sse.hub import DetectionHub
from sinks.sse.openapi import sse_operations
from standgale.services.composition import Composition
from standgale.services.console import OnePort
from standgale.services.sinks import make_stream_access


class GatewayComponent:
    """Serves the gateway once the broker is available, so that a process can start before its broker.

    With a ``hub`` it serves the live stream too, with a ``console`` the people's side.
    """

    name = "gateway"

    def __init__(self, process: Composition, hub: DetectionHub | None = None, console: FastAPI | None = None) -> None:
        self._process = process
        self._verifier = process.verifier()
        self._hub = hub
        self._console = console

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Serve until ``stop`` is set."""
        settings = self._process.settings
        try:
            publisher = await self._process.publisher(stop, health)
        except StoppedError:
            return
        answers = Answers(self._process.broker().reader, self._process.topics, settings.gateway)
        streams = None
        if settings.stream.enabled:
            partitions = self._process.topics[topics.FRAMES_LIVE].partitions
            streams = Streams(self._process.broker().reader, partitions, settings.stream)
        try:
            parts = GatewayParts(
                settings.gateway,
                self._verifier,
                self._process.store(),
                publisher,
                answers=answers,
                limits=settings.limits,
                lag=self._process.lag_limits(),
                originals=self._process.uploads(),
                flights=PostgresFlights(self._process.database(), max_open=settings.gateway.max_open_flights),
                streams=streams,
                health=self._process.health,
                stream_url=STREAM_PATH if self._hub is not None else None,
                documents=documents(self._process.topics),
                readiness=self._process.readiness(),
                clock=self._process.gateway_clock(),
                frame_partitions=self._process.topics[topics.FRAMES_LIVE].partitions,
            )
            app = create_gateway(parts)
            if self._hub is not None:
                app.router.routes.extend(
                    sse_routes(self._hub, make_stream_access(self._process), self._process.store())
                )
                app.openapi()["paths"].update(sse_operations(settings.sse))
            await self._serve(
                app if self._console is None else OnePort(app, self._console), answers, streams, stop, health
            )
        finally:
            await answers.close()
            await publisher.close()

    async def _serve(
        self, app: ASGIApp, answers: Answers, streams: Streams | None, stop: asyncio.Event, health: HealthPart
    ) -> None:
        def end_long_requests() -> None:
            # Requests that wait get 202 at once, because no detections may come any more.
            answers.stop_waiting()
            if streams is not None:
                streams.stop()

        settings = self._process.settings
        server = (HttpComponent if streams is None else WebSocketComponent)(
            self.name,
            app,
            host=settings.gateway.host,
            port=settings.gateway.port,
            http=settings.http.with_streams(self._streams()),
            drain_timeout_s=settings.telemetry.drain_timeout_s,
            on_stop=end_long_requests,
        )
        await server.run(stop, health)

    def _streams(self) -> int:
        """Return how many connections may be those of clients that stay."""
        settings = self._process.settings
        live = 0 if self._hub is None else settings.sse.max_clients
        return live + (0 if self._console is None else settings.console.max_watchers)
