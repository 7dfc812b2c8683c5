"""Opens the parts that the components of one process share, and closes them in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from console.media.open_streams import MediaStreams
from console.objects import JobObjects
from console.progress.watch import JobWatch
from detectors.store.open import open_model_store
from detectors.store.port import ModelStore
from detectors.worker.worker import GROUP
from infra.auth.kinds import API_KEYS
from infra.auth.verifier import TokenVerifier
from infra.broker.open import open_broker
from infra.broker.port import Broker, Publisher
from infra.database.pool import Database
from infra.encryption.box import SecretBox, open_box
from infra.failure.retry import retry
from infra.process.components import Component, run_components
from infra.process.health import Health, HealthPart
from infra.process.http_server import health_component
from infra.process.settings_sources import secret_file
from infra.secrets import secrets_of
from infra.storage.frames.open import open_frame_store
from infra.storage.frames.port import FrameStore
from infra.storage.originals.open import open_uploads
from infra.storage.originals.port import OriginalUploads
from infra.telemetry.logs import configure_logging
from infra.telemetry.tracing import setup_tracing, shutdown_tracing
from ingest.acceptance.originals_sweep import OriginalsSweep
from ingest.limits.lag import LagLimits
from ingest.limits.lag_watch import LagWatch
from ingest.readiness.broker_probe import BrokerProbe
from ingest.readiness.clock import GatewayClock
from ingest.readiness.outcomes import GatewayReadiness
from ingest.readiness.probe import DependencyProbe
from schemas.topics import TopicSpec, load_topics
from standgale.settings import Settings


class Composition:
    """Opens each part of one process when it is first needed, shares it, and runs the components."""

    def __init__(self, settings: Settings, service: str) -> None:
        self.settings = settings
        self.health = Health(silence_s=settings.telemetry.silence_s)
        self.topics: dict[str, TopicSpec] = load_topics(settings.topics_file)
        self._gateway_clock: GatewayClock | None = None
        self._readiness: GatewayReadiness | None = None
        self._lag_limits: LagLimits | None = None
        self.service = service
        self._stack = AsyncExitStack()
        self._broker: Broker | None = None
        self._store: FrameStore | None = None
        self._uploads: OriginalUploads | None = None
        self._models: ModelStore | None = None
        self._database: Database | None = None
        self._verifier: TokenVerifier | None = None
        self._keys: TokenVerifier | None = None
        self._box: SecretBox | None = None
        self._job_watch: JobWatch | None = None
        self._media_streams: MediaStreams | None = None
        self._job_objects: JobObjects | None = None

    async def __aenter__(self) -> Self:
        configure_logging(self.settings.telemetry, service=self.service, secrets=secrets_of(self.settings))
        setup_tracing(self.settings.telemetry, self.service)
        self._stack.callback(shutdown_tracing)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def broker(self) -> Broker:
        """Return the broker of the settings."""
        if self._broker is None:
            self._broker = open_broker(
                self.settings.broker, self.settings.data_dir, self.topics, secret_file("broker.sasl_password")
            )
            self._stack.push_async_callback(self._broker.close)
        return self._broker

    async def publisher(self, stop: asyncio.Event, health: HealthPart) -> Publisher:
        """Open a publisher; try until the broker is available. Raises StoppedError when ``stop`` is set before."""
        return await retry(
            self.broker().publisher,
            policy=self.settings.retry,
            stop=stop,
            health=health,
            what="connecting to the broker",
        )

    def store(self) -> FrameStore:
        """Return the frame store of the settings."""
        if self._store is None:
            self._store = open_frame_store(self.settings.frames, self.settings.data_dir)
            self._stack.push_async_callback(self._store.close)
        return self._store

    def uploads(self) -> OriginalUploads | None:
        """Return the place of large uploads that belongs to the frame store; None where they are turned off."""
        if self._uploads is None and self.settings.gateway.originals_enabled:
            most = self.settings.gateway.max_original_bytes
            self._uploads = open_uploads(self.settings.frames, self.settings.data_dir, max_bytes=most)
            self._stack.push_async_callback(self._uploads.close)
        return self._uploads

    def sweeps(self) -> list[Component]:
        """Make the component that removes uploads that were never announced."""
        uploads = self.uploads()
        valid_s = self.settings.gateway.original_upload_s
        return [] if uploads is None else [OriginalsSweep(uploads, valid_s=valid_s)]

    def model_store(self) -> ModelStore:
        """Return the model store of the settings."""
        if self._models is None:
            self._models = open_model_store(self.settings.models, self.settings.data_dir)
            self._stack.push_async_callback(self._models.close)
        return self._models

    def database(self) -> Database:
        """Return the database of the settings; it connects when first used."""
        if self._database is None:
            self._database = Database.open(self.settings.database, self.settings.data_dir, secret_file("database.url"))
            self._stack.push_async_callback(self._database.close)
        return self._database

    def box(self) -> SecretBox:
        """Return what encrypts secrets in the database. Raises SettingsError for keys that are none."""
        if self._box is None:
            self._box = open_box(self.settings.encryption, self.settings.data_dir)
        return self._box

    def media_streams(self) -> MediaStreams:
        """Return the streams of events of media; it is a component that must run, too."""
        if self._media_streams is None:
            self._media_streams = MediaStreams(self.settings.media)
        return self._media_streams

    def job_objects(self) -> JobObjects:
        """Return the S3 server of inference jobs; it connects when first used."""
        if self._job_objects is None:
            self._job_objects = JobObjects(self.settings.inference_jobs)
            self._stack.push_async_callback(self._job_objects.close)
        return self._job_objects

    def verifier(self) -> TokenVerifier:
        """Return the verifier of device tokens; it is a component that must run, too."""
        if self._verifier is None:
            self._verifier = TokenVerifier(self.database(), refresh_s=self.settings.gateway.token_refresh_s)
        return self._verifier

    def keys(self) -> TokenVerifier:
        """Return the verifier of API keys; it is a component that must run, too."""
        if self._keys is None:
            refresh_s = self.settings.console.key_refresh_s
            self._keys = TokenVerifier(self.database(), refresh_s=refresh_s, retry=self.settings.retry, kind=API_KEYS)
        return self._keys

    def job_watch(self) -> JobWatch:
        """Return what reads the jobs whose progress is streamed; it is a component that must run, too."""
        if self._job_watch is None:
            self._job_watch = JobWatch(self.database(), self.settings.console, self.settings.retry)
        return self._job_watch

    def gateway_clock(self) -> GatewayClock:
        """Return the gateway's clock, which its endpoint and its probes share."""
        if self._gateway_clock is None:
            tolerance_s = self.settings.gateway.clock_tolerance_s
            self._gateway_clock = GatewayClock(self.health.part("broker"), tolerance_s=tolerance_s)
        return self._gateway_clock

    def readiness(self) -> GatewayReadiness:
        """Return the gateway's readiness, which its endpoint and its probes share."""
        if self._readiness is None:
            self._readiness = GatewayReadiness.of(self.health, self.settings.gateway)
        return self._readiness

    def probes(self) -> list[Component]:
        """Make the components that check store and broker while no frame arrives."""
        settings, readiness = self.settings.gateway, self.readiness()
        broker = BrokerProbe(self.broker(), self.gateway_clock())
        self._stack.push_async_callback(broker.close)
        return [
            DependencyProbe("store", self.store().check, readiness.store, interval_s=settings.probe_interval_s),
            DependencyProbe("broker", broker.check, readiness.broker, interval_s=settings.probe_interval_s),
        ]

    def lag_limits(self) -> LagLimits | None:
        """Return what refuses frames while the detectors are behind; None when the settings limit no lag."""
        if self._lag_limits is None and self.settings.limits.limits_lag:
            self._lag_limits = LagLimits(self.settings.limits)
        return self._lag_limits

    def lag_watches(self) -> list[Component]:
        """Make the component that reads the lag of the detectors, if the settings limit it."""
        limits = self.lag_limits()
        return [] if limits is None else [LagWatch(self.broker(), GROUP, limits, self.settings.limits.lag_interval_s)]

    async def run(self, components: Sequence[Component]) -> int:
        """Run ``components`` and the health server until the process is stopped; returns the exit status."""
        telemetry = self.settings.telemetry
        return await run_components(
            components,
            health=self.health,
            drain_timeout_s=telemetry.drain_timeout_s,
            last=(health_component(telemetry, self.health, self.settings.http),),
        )
