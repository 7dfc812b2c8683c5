"""Starts real MQTT brokers (Debian's mosquitto), and subscribes to their topics as a lasting client."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiomqtt
import orjson
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from infra.deploy.ports import free_port

_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
_START_S = 20.0


def require_mosquitto(*more: str) -> None:
    """Skip the test without mosquitto or one of ``more``, but fail where CI is set: CI has them."""
    missing = [tool for tool in ("mosquitto", *more) if shutil.which(tool, path=_PLACES) is None]
    if missing:
        reason = f"{' and '.join(missing)} not found; tests of MQTT need Debian's mosquitto"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class Mosquitto:
    """Runs one broker on a port of its own; ``lines`` are further lines of its configuration."""

    def __init__(self, folder: Path, lines: Sequence[str] = ("allow_anonymous true",)) -> None:
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.chmod(0o755)
        # As root it would continue as the user mosquitto, who may not write to the folder.
        own = (f"listener {self.port} 127.0.0.1", "user root", "persistence true", f"persistence_location {folder}/")
        self._file = folder / "mosquitto.conf"
        self._file.write_text("\n".join((*own, "autosave_on_changes true", "autosave_interval 1", *lines)) + "\n")

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        program = shutil.which("mosquitto", path=_PLACES)
        assert program is not None
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._file)], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "mosquitto does not listen"
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it, SIGCONT lets it continue, SIGHUP reads passwords and rights again."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; with SIGKILL as a machine that loses power."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass
class Received:
    """Holds what a subscriber got, in order."""

    messages: list[aiomqtt.Message] = field(default_factory=list)

    def bodies(self, prefix: str) -> list[dict[str, object]]:
        """Return the JSON bodies of the messages of topics that begin with ``prefix``."""
        return [orjson.loads(bytes(one.payload)) for one in self.messages if str(one.topic).startswith(prefix)]  # type: ignore[arg-type]

    def texts(self, topic: str) -> list[str]:
        return [bytes(one.payload).decode() for one in self.messages if str(one.topic) == topic]  # type: ignore[arg-type]

    def first_of_each(self, prefix: str) -> list[dict[str, object]]:
        """Return the bodies without repeated ids, as a subscriber that drops them has them."""
        return list({str(body["id"]): body for body in reversed(self.bodies(prefix))}.values())[::-1]


def attributes(message: aiomqtt.Message) -> dict[str, str]:
    """Return the user properties of ``message``."""
    return dict(getattr(message.properties, "UserProperty", ()))


@asynccontextmanager
async def subscribed(port: int, *topics: str, name: str = "test-reader", **login: str) -> AsyncIterator[Received]:
    """Subscribe to ``topics`` with QoS 1 while the block runs; a session that outlives outages of the broker."""
    received, ready = Received(), asyncio.Event()

    async def read() -> None:
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3_600
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(
                    "127.0.0.1",
                    port,
                    identifier=name,
                    protocol=aiomqtt.ProtocolVersion.V5,
                    clean_start=False,
                    properties=session,
                    **login,
                ) as client:
                    for topic in topics:
                        await client.subscribe(topic, qos=1)
                    ready.set()
                    async for message in client.messages:
                        received.messages.append(message)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(read())
    try:
        async with asyncio.timeout(30):
            await ready.wait()
        yield received
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
