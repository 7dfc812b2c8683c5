"""Starts a server of the detection stream in a separate process, and makes the events of its topic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.events import DetectionsMade
from sinks.settings import SseSettings
from standgale.testing.factories import detections_made
from tests.paths import ROOT

_SERVER = """
import asyncio, sys
from pathlib import Path
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.process.health import Health
from infra.process.components import run_components
from infra.process.http_server import HttpComponent
from sinks.settings import SseSettings
from schemas.topics import load_topics
from sinks.sse import DetectionHub, create_sse_app

async def main():
    broker = EmbeddedBroker(Path(sys.argv[1]), load_topics())
    settings = SseSettings.model_validate_json(sys.argv[2])
    hub = DetectionHub(broker, settings)
    http = HttpComponent("http", create_sse_app(hub, settings), host=settings.host, port=settings.port)
    print(http.bind(), flush=True)
    status = await run_components([hub, http], health=Health(), drain_timeout_s=5)
    await broker.close()
    return status

sys.exit(asyncio.run(main()))
"""


def start_stream(broker: Path, settings: SseSettings) -> tuple[subprocess.Popen[str], int]:
    """Start a process that serves the stream of the embedded broker at ``broker``; return it and its port."""
    command = [sys.executable, "-P", "-c", _SERVER, str(broker), settings.model_dump_json(exclude={"tokens"})]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    return server, int(server.stdout.readline())


def numbered(number: int, labels: Sequence[str] = (), device: str | None = None) -> DetectionsMade:
    """Return detections event ``number``, of one of five devices, with the number in its metadata.

    Its detections have confidence 0.1, 0.2, 0.3 … in order.
    """
    event = detections_made(number, labels=labels, device=device or f"drone-{number % 5}", metadata={"number": number})
    found = [
        one.model_copy(update={"confidence": (index + 1) / 10, "class_id": index})
        for index, one in enumerate(event.detections)
    ]
    return event.model_copy(update={"detections": found})
