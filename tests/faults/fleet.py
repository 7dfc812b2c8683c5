"""A fleet of real Windhover processes that a test may kill, and devices that keep sending until they are answered."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import cv2
import numpy as np

from schemas.timestamps import format_utc

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
_REQUEST_TIMEOUT_S = 10.0


@dataclass
class Member:
    """One process of the fleet and how to start it again."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]


class Fleet:
    """Starts processes by name, kills them, starts them again; all logs go to one folder."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = {**os.environ, **environment}
        self._folder = folder
        self._members: dict[str, Member] = {}
        self.kills = 0

    def start(self, name: str, *arguments: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "windhover", *arguments], env=self.environment, stdout=log, stderr=log
            )
        self._members[name] = Member(arguments, process)

    def kill(self, name: str) -> None:
        """SIGKILL, and start again at once."""
        member = self._members[name]
        assert member.process.poll() is None, (
            f"{name} ended by itself with {member.process.returncode}: {self.log(name)}"
        )
        member.process.kill()
        member.process.wait()
        self.kills += 1
        self.start(name, *member.arguments)

    def lose(self, name: str) -> None:
        """SIGKILL, for good."""
        member = self._members.pop(name)
        member.process.kill()
        member.process.wait()
        self.kills += 1

    async def leave(self, name: str, timeout_s: float = 60.0) -> None:
        """SIGTERM; it must drain and end with 0."""
        member = self._members.pop(name)
        member.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(member.process.wait, timeout_s)
        assert status == 0, f"{name} ended with {status} after SIGTERM: {self.log(name)}"

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._members if name.startswith(prefix)]

    def check(self) -> None:
        """No process has ended by itself: the world's faults are to be survived."""
        for name, member in self._members.items():
            status = member.process.poll()
            assert status is None, f"{name} ended by itself with {status}: {self.log(name)}"

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-4_000:]

    def stop(self) -> None:
        for member in self._members.values():
            member.process.terminate()
        deadline = time.monotonic() + 40
        for member in self._members.values():
            try:
                member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
        self._members.clear()


@dataclass
class Device:
    """Sends its frames one after the other; each again and again until it is accepted."""

    device_id: str
    token: str
    url: str
    frames: int
    interval_s: float
    seed: int
    on_accepted: Callable[[], None]
    accepted: list[UUID] = field(default_factory=list)
    attempts: int = 0

    async def run(self, session: aiohttp.ClientSession) -> None:
        rng = random.Random(self.seed)
        for number in range(self.frames):
            started = time.monotonic()
            self.accepted.append(await self._send(session, number))
            self.on_accepted()
            # Drones do not send in step.
            pause_s = self.interval_s * rng.uniform(0.5, 1.5) - (time.monotonic() - started)
            await asyncio.sleep(max(0.0, pause_s))

    async def _send(self, session: aiohttp.ClientSession, number: int) -> UUID:
        captured_at = format_utc(START + timedelta(seconds=number))
        data = jpeg(self.seed, number)
        headers = {"X-API-Token": self.token, "Content-Type": "image/jpeg"}
        answer = "nothing"
        for _ in range(600):
            self.attempts += 1
            try:
                async with session.post(
                    self.url,
                    params={"captured_at": captured_at},
                    data=data,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S),
                ) as response:
                    answer = await response.text()
                    if response.status == 202:
                        return UUID((await response.json())["frame_id"])
                    assert response.status in (429, 503), f"{response.status}: {answer}"
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = repr(error)
            await asyncio.sleep(0.2)
        raise AssertionError(f"{self.device_id} frame {number} was never accepted; last answer: {answer}")


def jpeg(seed: int, number: int) -> bytes:
    """A 256×256 JPEG of its own for each device and number, with one red rectangle."""
    rng = np.random.default_rng([seed, number])
    image = rng.integers(60, 120, (32, 32, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    left, top = (int(each) for each in rng.integers(20, 190, 2))
    image[top : top + 40, left : left + 40] = (0, 0, 255)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
