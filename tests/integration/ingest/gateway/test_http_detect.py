"""POST /api/v1/detect with a real worker: the response has what the worker found (C-S1-001 to C-S1-007)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ingest.settings import GatewaySettings
from tests.harnesses.worker_site import WorkerSite, picture
from tests.servers.gateway import WHEN, Gateway, running

DETECT = "/api/v1/detect"


@asynccontextmanager
async def detecting(folder: Path, settings: GatewaySettings | None = None) -> AsyncIterator[tuple[Gateway, WorkerSite]]:
    """Run a gateway and a worker on one embedded broker and one folder of frames."""
    site = WorkerSite(folder)
    async with site.run_workers(site.parts()), running(folder, settings, broker=site.broker) as gateway:
        yield gateway, site


async def test_detect_returns_what_was_found(tmp_path: Path) -> None:
    async with detecting(tmp_path) as (gateway, site):
        response = await gateway.send(picture(40), path=DETECT, params={"timestamp": WHEN, "device_id": "drone-1"})
        print(response.body)
        assert response.status == 200
        response = await gateway.send(picture(40), path=DETECT, params={"timestamp": WHEN, "device_id": "drone-1"})
        assert response.status == 200
