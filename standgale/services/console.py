"""Builds the console of a process: its app, and the components that work behind it."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from console.http.app import create_console
from console.jobs.job_gauges import JobGauges
from console.jobs.publisher import JobPublisher
from console.jobs.store_models import StoreModels
from console.media.frames import KeptMedia
from console.media.publisher import MediaPublisher
from console.media.retention import MediaRetention
from console.media.runner import MediaRunner
from console.media.tokens import MediaTokens
from console.parts import ConsoleParts
from console.routes import PUBLIC_ROUTES, console_routers
from console.uploads.retention import UploadRetention
from detectors.card.card import ModelCard, default_card_path, read_card
from detectors.errors import ModelLoadError
from detectors.worker.worker import GROUP
from infra.outbox.relay import OutboxRelay
from infra.process.components import Component
from infra.process.error_body import ERRORS_PATH
from infra.process.http_server import HttpComponent
from standgale.services.composition import Composition
from standgale.services.group_members import GroupMembers
from standgale.services.inference_jobs import make_inference_workers
from standgale.services.publishing import PublishingComponent
from standgale.services.rules_library import InstalledRules
from standgale.services.serving_models import ServingModels


def make_console_app(process: Composition) -> FastAPI:
    """Make the app of the console."""
    settings = process.settings
    parts = ConsoleParts(
        settings.console,
        process.keys(),
        process.database(),
        process.store(),
        process.box(),
        limits=settings.limits,
        health=process.health,
        rules=InstalledRules(settings.rules_folder),
        detectors=GroupMembers(process.broker().admin, GROUP),
        models=StoreModels(
            process.model_store(), _own_model(settings.detector.model), ServingModels(process.broker().reader)
        ),
        objects=process.job_objects(),
        webhooks=settings.webhooks,
    )
    routers = console_routers(parts, process.job_watch(), process.media_streams())
    return create_console(parts, routers, public=PUBLIC_ROUTES)


def _own_model(card: Path | None) -> ModelCard | None:
    """Return the card that detectors with these settings have without the store; None when it is wrong."""
    try:
        return read_card(card or default_card_path())
    except ModelLoadError:
        # The detector says what is wrong with it.
        return None


def make_console_workers(process: Composition, host: str, port: int) -> list[Component]:
    """Make the components that the console needs besides its server, which listens on ``host`` and ``port``."""
    database, console, retry = process.database(), process.settings.console, process.settings.retry
    return [
        process.keys(),
        process.job_watch(),
        UploadRetention(database, process.store(), console, retry),
        JobGauges(database, retry),
        PublishingComponent("outbox", process, lambda publisher: OutboxRelay(database, publisher, retry)),
        PublishingComponent("job-frames", process, lambda publisher: JobPublisher(database, publisher, console, retry)),
        *_make_media_workers(process),
        *make_inference_workers(process, host, port),
    ]


def _make_media_workers(process: Composition) -> list[Component]:
    """Make the components that work on media."""
    settings, database, box = process.settings, process.database(), process.box()
    media, console, retry = settings.media, settings.console, settings.retry
    return [
        process.media_streams(),
        MediaTokens(database, box, media, retry),
        MediaRunner(database, KeptMedia(process.store(), console, settings.video), box, media, retry),
        MediaRetention(database, process.store(), media.keep_days, retry),
        PublishingComponent(
            "media-frames", process, lambda publisher: MediaPublisher(database, publisher, console, retry)
        ),
    ]


def make_console_server(process: Composition) -> Component:
    """Make the component that serves the console on a port of its own."""
    settings = process.settings
    return HttpComponent(
        "console",
        make_console_app(process),
        host=settings.console.host,
        port=settings.console.port,
        http=settings.http.with_streams(settings.console.max_watchers),
        drain_timeout_s=settings.telemetry.drain_timeout_s,
    )


class OnePort:
    """Serves two apps on one port: a request goes to the console when one of its routes has the path.

    What both have, such as the health, is the gateway's; the console's pages about errors have the codes of both.
    """

    def __init__(self, gateway: FastAPI, console: FastAPI) -> None:
        self._gateway = gateway
        self._console = console
        own = {path for route in gateway.routes if not (path := getattr(route, "path", "")).startswith(ERRORS_PATH)}
        self._routes = [route for route in console.routes if getattr(route, "path", "") not in own]
        both = gateway.openapi()
        also = console.openapi()
        both["paths"].update({path: methods for path, methods in also["paths"].items() if path not in own})
        for kind, entries in also.get("components", {}).items():
            both.setdefault("components", {}).setdefault(kind, {}).update(entries)
        both["tags"] = [*both.get("tags", ()), *also.get("tags", ())]
        both["info"]["title"] = "Standgale"
        both["info"]["description"] = f"{gateway.description}\n{console.description}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        await self._app_of(scope)(scope, receive, send)

    def _app_of(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self._gateway
        for route in self._routes:
            if route.matches(scope)[0].value:
                return self._console
        return self._gateway
