"""Runs the processes of Standgale: one per service in production, all services in one on a laptop."""

from __future__ import annotations

from standgale.services.composition import Composition
from standgale.services.console import make_console_app, make_console_server, make_console_workers
from standgale.services.detector import make_detector
from standgale.services.gateway import GatewayComponent
from standgale.services.schema import SchemaMigrator
from standgale.services.sinks import (
    make_annotations_sink,
    make_archive_sink,
    make_hub,
    make_mqtt_sink,
    make_postgres_sinks,
    make_retention,
    make_sink_components,
    make_statistics_sinks,
    make_system_metrics,
    make_webhook_sinks,
)
from standgale.services.sources import SourcesComponent, can_pull
from standgale.settings import Settings


async def run_up(settings: Settings) -> int:
    """Run all services in one process, and migrate the database first; returns the exit status."""
    async with Composition(settings, "standgale") as process:
        schema = SchemaMigrator(process.database(), settings.retry)
        await schema.try_once()
        hub = make_hub(process)
        return await process.run(
            [
                schema,
                process.verifier(),
                *process.probes(),
                *process.lag_watches(),
                *process.sweeps(),
                hub,
                GatewayComponent(process, hub, make_console_app(process)),
                *make_console_workers(process, settings.gateway.host, settings.gateway.port),
                make_detector(process, None),
                *make_postgres_sinks(process, None),
                *make_webhook_sinks(process, None),
                *make_statistics_sinks(process, None),
                *make_retention(process),
                *(make_annotations_sink(process, None) if settings.media.sends_annotations else []),
                *([] if settings.mqtt.url is None else make_mqtt_sink(process, None)),
                *make_archive_sink(process, None),
                # PyAV is an extra; without it there are no sources.
                *([SourcesComponent(process)] if can_pull() else []),
            ]
        )


async def run_gateway(settings: Settings) -> int:
    """Run the gateway alone; returns the exit status."""
    async with Composition(settings, "gateway") as process:
        side = (*process.probes(), *process.lag_watches(), *process.sweeps())
        return await process.run([process.verifier(), *side, GatewayComponent(process)])


async def run_console(settings: Settings) -> int:
    """Run the console alone; returns the exit status."""
    async with Composition(settings, "console") as process:
        workers = make_console_workers(process, settings.console.host, settings.console.port)
        return await process.run([*workers, make_system_metrics(process), make_console_server(process)])


async def run_sources(settings: Settings) -> int:
    """Pull cameras alone; returns the exit status."""
    async with Composition(settings, "sources") as process:
        return await process.run([*process.probes(), *process.lag_watches(), SourcesComponent(process)])


async def run_detector(settings: Settings, instance_id: str | None) -> int:
    """Run one detector worker; returns the exit status."""
    async with Composition(settings, "detector") as process:
        return await process.run([make_detector(process, instance_id)])


async def run_sink(settings: Settings, name: str, instance_id: str | None) -> int:
    """Run the sink ``name``, which ships or is a plug-in; returns the exit status."""
    async with Composition(settings, f"sink.{name}") as process:
        return await process.run(make_sink_components(process, name, instance_id))
