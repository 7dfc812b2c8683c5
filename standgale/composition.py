"""Puts a process together from settings: opens what its components share, once, and closes it in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from detectors.store.open import open_model_store
from detectors.store.port import ModelStore
from infra.auth.verifier import TokenVerifier
from infra.broker.open import embedded_file, open_broker
from infra.broker.port import Broker
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.errors import SettingsError
from infra.process.components import Component, run_components
from infra.process.health import Health
from infra.process.http_server import health_component
from infra.process.settings_sources import secret_file
from infra.secrets import secrets_of
from infra.storage.frames.open import open_frame_store
from infra.storage.frames.port import FrameStore
from infra.telemetry.logs import configure_logging
from infra.telemetry.tracing import setup_tracing, shutdown_tracing
from ingest.gateway.readiness.broker_probe import BrokerProbe
from ingest.gateway.readiness.clock import GatewayClock
from ingest.gateway.readiness.outcomes import GatewayReadiness
from ingest.gateway.readiness.probe import DependencyProbe
from schemas.topics import TopicSpec, load_topics
from standgale.settings import Settings


class Composition:
    """One process under construction. Parts are opened when first asked for and shared by its components."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.settings = settings
        self.health = Health(silence_s=settings.telemetry.silence_s)
        self.topics: dict[str, TopicSpec] = load_topics(settings.topics_file)
        self._gateway_clock: GatewayClock | None = None
        self._readiness: GatewayReadiness | None = None
        self._service = service
        self._stack = AsyncExitStack()
        self._broker: Broker | None = None
        self._store: FrameStore | None = None
        self._models: ModelStore | None = None
        self._database: Database | None = None
        self._verifier: TokenVerifier | None = None

    async def __aenter__(self) -> Self:
        configure_logging(self.settings.telemetry, service=self._service, secrets=secrets_of(self.settings))
        setup_tracing(self.settings.telemetry, self._service)
        self._stack.callback(shutdown_tracing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def broker(self) -> Broker:
        """The broker of the settings."""
        if self._broker is None:
            self._broker = open_broker(
                self.settings.broker, self.settings.data_dir, self.topics, secret_file("broker.sasl_password")
            )
            self._stack.push_async_callback(self._broker.close)
        return self._broker

    def store(self) -> FrameStore:
        """The frame store of the settings."""
        if self._store is None:
            self._store = open_frame_store(self.settings.frames, self.settings.data_dir)
            self._stack.push_async_callback(self._store.close)
        return self._store

    def model_store(self) -> ModelStore:
        """The model store of the settings."""
        if self._models is None:
            self._models = open_model_store(self.settings.models, self.settings.data_dir)
            self._stack.push_async_callback(self._models.close)
        return self._models

    def database(self) -> Database:
        """The database of the settings, connected when first used."""
        if self._database is None:
            self._database = Database.open(self.settings.database, self.settings.data_dir, secret_file("database.url"))
            self._stack.push_async_callback(self._database.close)
        return self._database

    def verifier(self) -> TokenVerifier:
        """Knows the device tokens; a component that must run beside whoever asks it."""
        if self._verifier is None:
            self._verifier = TokenVerifier(self.database(), refresh_s=self.settings.gateway.token_refresh_s)
        return self._verifier

    def gateway_clock(self) -> GatewayClock:
        """The gateway's time; shared by its endpoint and its probes."""
        if self._gateway_clock is None:
            tolerance_s = self.settings.gateway.clock_tolerance_s
            self._gateway_clock = GatewayClock(self.health.part("broker"), tolerance_s=tolerance_s)
        return self._gateway_clock

    def readiness(self) -> GatewayReadiness:
        """What the gateway's work on store and broker comes to; shared by its endpoint and its probes."""
        if self._readiness is None:
            self._readiness = GatewayReadiness.of(self.health, self.settings.gateway)
        return self._readiness

    def probes(self) -> list[Component]:
        """Components that keep health true about store and broker when no frame comes to show it."""
        settings, readiness = self.settings.gateway, self.readiness()
        broker = BrokerProbe(self.broker(), self.gateway_clock())
        self._stack.push_async_callback(broker.close)
        return [
            DependencyProbe("store", self.store().check, readiness.store, interval_s=settings.probe_interval_s),
            DependencyProbe("broker", broker.check, readiness.broker, interval_s=settings.probe_interval_s),
        ]

    async def run(self, components: Sequence[Component]) -> int:
        """Run ``components`` with the health server beside them until told to stop; returns the exit status."""
        telemetry = self.settings.telemetry
        return await run_components(
            components,
            health=self.health,
            drain_timeout_s=telemetry.drain_timeout_s,
            last=(health_component(telemetry, self.health),),
        )


@asynccontextmanager
async def open_database(settings: Settings, *, migrate: bool = True) -> AsyncIterator[Database]:
    """The database of ``settings`` for one command; an embedded one is brought to the newest schema first."""
    database = Database.open(settings.database, settings.data_dir, secret_file("database.url"))
    try:
        if migrate and settings.database.url is None:
            await asyncio.to_thread(migrate_up, await database.dsn())
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def opened_broker(settings: Settings, *, make: bool = True, as_it_is: bool = False) -> AsyncIterator[Broker]:
    """The broker of ``settings`` for one command; ``as_it_is``: opening an embedded one creates and alters no topic.

    Raises SettingsError when the embedded one has no file and the command must not ``make`` one: a file that was moved
    away while services use it would have another one in its place, which services that start would take for theirs.
    """
    file = embedded_file(settings.data_dir)
    if not make and settings.broker.kind == "embedded" and not file.is_file():
        raise SettingsError(
            f"the embedded broker has no file {file}: no service has run there yet, or the file was moved away; "
            "correct STANDGALE_DATA_DIR, or put the file back"
        )
    topics = {} if as_it_is and settings.broker.kind == "embedded" else load_topics(settings.topics_file)
    broker = open_broker(settings.broker, settings.data_dir, topics, secret_file("broker.sasl_password"))
    try:
        yield broker
    finally:
        await broker.close()
