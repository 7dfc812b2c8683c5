"""Runs a gateway on the embedded broker in a process of its own, to kill it and to freeze it.

``python -m tests.servers.gateway_process FOLDER PORT SETTINGS`` serves until it is ended; its tokens are in memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import TopicPartition
from infra.deploy.ports import free_port
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_LIVE, load_topics
from tests.faults.forked import ForkedProcess
from tests.servers.gateway import running

_START_S = 60.0


class GatewayProcess:
    """Starts and ends the process, always on the same port; frames stay in its folder."""

    def __init__(self, folder: Path, port: int | None = None, settings: GatewaySettings | None = None) -> None:
        self.folder = folder
        self._settings = settings or GatewaySettings()
        self.port = port or free_port()
        self._process: ForkedProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        module, settings = "tests.servers.gateway_process", self._settings.model_dump_json()
        self._process = ForkedProcess((str(self.folder), str(self.port), settings), os.environ, None, module=module)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "the gateway has ended"
            time.sleep(0.02)
        raise AssertionError("the gateway does not listen")

    def kill(self) -> None:
        """Send SIGKILL; its port refuses connections from now on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Send SIGTERM, and wait until it has ended what it had begun."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(_START_S) == 0
        self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def frames(self, topic: str = FRAMES_LIVE) -> list[FrameCaptured]:
        """Return all events of ``topic``, in the order of their partitions."""
        return await captured_frames(self.folder, topic)


async def captured_frames(folder: Path, topic: str = FRAMES_LIVE) -> list[FrameCaptured]:
    """Return all events of ``topic`` on the embedded broker in ``folder``."""
    broker = EmbeddedBroker(folder / "broker.db", load_topics())
    reader = await broker.reader()
    found: list[FrameCaptured] = []
    try:
        for number, (first, following) in (await reader.bounds(topic)).items():
            at = first
            while at < following:
                records = await reader.read(TopicPartition(topic, number), at, max_records=500, timeout_s=1.0)
                found += [decode(record.headers, record.value, FrameCaptured) for record in records]
                at = records[-1].offset + 1
    finally:
        await reader.close()
        await broker.close()
    return found


def first_occurrences(frames: list[FrameCaptured]) -> list[FrameCaptured]:
    """Return ``frames`` without the repetitions of those whose response was lost."""
    return list({frame.frame_id: frame for frame in frames}.values())


def repetitions(frames: list[FrameCaptured]) -> int:
    """Return how many events repeat an earlier one."""
    return sum(count - 1 for count in Counter(frame.frame_id for frame in frames).values())


async def _serve(folder: Path, port: int, settings: GatewaySettings) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with running(folder, settings, port=port):
        await stopped.wait()


if __name__ == "__main__":
    # As a service does.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        given = GatewaySettings.model_validate_json(sys.argv[3])
        runner.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), given))
