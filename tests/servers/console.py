"""Runs a console over real HTTP on a real database, folder and embedded broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from fastapi import APIRouter, FastAPI

from console.http.app import create_console
from console.inference_settings import InferenceJobsSettings
from console.media.open_streams import MediaStreams
from console.media.settings import MediaSettings
from console.objects import JobObjects
from console.parts import ConsoleParts
from console.progress.watch import JobWatch
from console.settings import ConsoleSettings
from infra.auth.kinds import API_KEYS
from infra.auth.tokens import ApiKeys
from infra.auth.verifier import TokenVerifier
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.process.health import Health
from infra.process.http_server import HttpComponent
from infra.storage.frames.folder import FolderFrameStore
from ingest.limits.settings import LimitsSettings
from schemas.topics import load_topics


@dataclass(frozen=True)
class ConsoleResponse:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return str(self.json["error_code"])


@dataclass
class RunningConsole:
    """Holds a running console with its parts, and sends requests to it as the client ``desktop``."""

    port: int
    app: FastAPI
    database: Database
    store: FolderFrameStore
    broker: EmbeddedBroker
    keys: TokenVerifier
    watch: JobWatch
    parts: ConsoleParts
    http: aiohttp.ClientSession
    key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def request(self, method: str, path: str, *, key: str | None = "", **options: Any) -> ConsoleResponse:
        """Send a request with the client's key, with ``key``, or without one (None)."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = key or self.key
        async with self.http.request(method, self.url + path, headers=headers, **options) as response:
            return ConsoleResponse(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> ConsoleResponse:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> ConsoleResponse:
        return await self.request("POST", path, **options)

    async def other_client(self, name: str = "tablet") -> str:
        """The key of another client."""
        key = await ApiKeys(self.database).add(name)
        await self.keys.refresh()
        return key


@asynccontextmanager
async def running_console(
    folder: Path,
    database: Database,
    routers: Any = None,
    settings: ConsoleSettings | None = None,
    also: Sequence[APIRouter] = (),
    limits: LimitsSettings | None = None,
    media: MediaSettings | None = None,
    inference: InferenceJobsSettings | None = None,
    **changes: Any,
) -> AsyncIterator[RunningConsole]:
    """Run a console; ``routers`` makes its routes from the parts (None: those of a real console), ``also`` are more.

    ``changes`` are to its parts.
    """
    from console.routes import PUBLIC_ROUTES, console_routers

    key = await ApiKeys(database).add("desktop")
    keys = TokenVerifier(database, refresh_s=0.1, kind=API_KEYS)
    await keys.refresh()
    store = FolderFrameStore(folder / "frames")
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    health = Health()
    chosen = settings or ConsoleSettings()
    watch, streams = JobWatch(database, chosen), MediaStreams(media or MediaSettings())
    objects, box = JobObjects(inference or InferenceJobsSettings()), SecretBox([bytes(32)])
    changes = {"objects": objects, **changes}
    parts = ConsoleParts(chosen, keys, database, store, box, limits or LimitsSettings(), health, **changes)
    made = console_routers(parts, watch, streams) if routers is None else routers(parts)
    app = create_console(parts, [*made, *also], public=PUBLIC_ROUTES)
    component = HttpComponent("console", app, host="127.0.0.1", port=0)
    port, stop = component.bind(), asyncio.Event()
    tasks = [asyncio.create_task(each.run(stop, health.part(each.name))) for each in (component, watch, streams)]
    try:
        async with aiohttp.ClientSession() as http:
            yield RunningConsole(port, app, database, store, broker, keys, watch, parts, http, key)
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        await objects.close()
        await broker.close()
        await store.close()
