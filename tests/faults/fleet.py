"""Starts, kills and freezes real Standgale processes, and sends frames of devices until they are accepted."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, cast
from uuid import UUID

import aiohttp
import cv2
import numpy as np

from schemas.timestamps import format_utc

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
_REQUEST_TIMEOUT_S = 10.0


class Process(Protocol):
    """Is a running process; the methods are those of subprocess.Popen."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def send_signal(self, number: signal.Signals) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Start = Callable[[Sequence[str], Mapping[str, str], Path], Process]
"""Starts `standgale` with arguments and an environment; what it prints is added to a file."""


def start_module(module: str) -> Start:
    """Return what starts ``module`` in a new interpreter."""

    def start(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        command = [sys.executable, "-P", "-m", module, *arguments]
        with log.open("ab") as file:
            return cast("Process", subprocess.Popen(command, env=environment, stdout=file, stderr=file))

    return start


@dataclass
class Member:
    """Holds one process of the fleet, with the arguments to start it again."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    started: Process | None = None
    down: bool = True

    @property
    def process(self) -> Process:
        """The process, also when it has ended."""
        assert self.started is not None, f"{self.arguments} was never started"
        return self.started


class Fleet:
    """Starts processes by name, kills them, starts them again; all logs go to one folder."""

    def __init__(self, environment: Mapping[str, str], folder: Path, start: Start | None = None) -> None:
        """``start`` starts each process; by default in a new interpreter."""
        self.environment = {**os.environ, **environment}
        self._folder = folder
        self._start = start or start_module("standgale")
        self._members: dict[str, Member] = {}
        self.kills = 0

    def add(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Add a process, ``python -m standgale`` with ``arguments``; ``environment`` is only for it."""
        self._members[name] = Member(arguments, environment or {})

    def start(self, name: str, *arguments: str) -> None:
        """Add a process and start it."""
        self.add(name, *arguments)
        self.bring_up(name)

    def kill(self, name: str) -> None:
        """Send SIGKILL, and start the process again at once."""
        self.take_down(name)
        self.bring_up(name)

    def take_down(self, name: str) -> None:
        """Send SIGKILL; the process stays down until ``bring_up``."""
        member = self._members[name]
        assert member.process.poll() is None, (
            f"{name} ended unexpectedly with {member.process.returncode}: {self.log(name)}"
        )
        member.down = True
        member.process.kill()
        member.process.wait()
        self.kills += 1

    def bring_up(self, name: str) -> None:
        """Start a process that is down."""
        member = self._members[name]
        environment = {**self.environment, **member.environment}
        member.started = self._start(member.arguments, environment, self._folder / f"{name}.log")
        member.down = False

    def freeze(self, name: str) -> None:
        """Send SIGSTOP: connections stay open, and the process does nothing."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Send SIGCONT."""
        self._signal(name, signal.SIGCONT)

    def lose(self, name: str) -> None:
        """Send SIGKILL, and remove the process from the fleet."""
        self.take_down(name)
        del self._members[name]

    async def leave(self, name: str, timeout_s: float = 60.0) -> None:
        """Send SIGTERM, require exit status 0, and remove the process from the fleet."""
        status = await self.end(name, timeout_s)
        assert status == 0, f"{name} ended with {status} after SIGTERM: {self.log(name)}"
        del self._members[name]

    async def end(self, name: str, timeout_s: float = 60.0) -> int:
        """Send SIGTERM and return the exit status; raise TimeoutExpired when the process does not end."""
        member = self._members[name]
        member.down = True
        member.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(member.process.wait, timeout_s)

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self._members if name.startswith(prefix)]

    def process_id(self, name: str) -> int:
        return self._members[name].process.pid

    def is_down(self, name: str) -> bool:
        """Return whether the process was not started, was killed or was ended."""
        return self._members[name].down

    def ended(self) -> dict[str, int]:
        """Return the exit statuses of processes that ended unexpectedly."""
        statuses = {name: each.process.poll() for name, each in self._members.items() if not each.down}
        return {name: status for name, status in statuses.items() if status is not None}

    def check(self) -> None:
        """Raise AssertionError when a process has ended unexpectedly: it must survive the faults of others."""
        for name, status in self.ended().items():
            raise AssertionError(f"{name} ended unexpectedly with {status}: {self.log(name)}")

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-4_000:]

    def stop(self) -> None:
        running = [name for name, member in self._members.items() if not member.down]
        for how in (signal.SIGTERM, signal.SIGCONT):  # a frozen process ends only after SIGCONT
            for name in running:
                self._signal(name, how)
        deadline = time.monotonic() + 40
        for name in running:
            process = self._members[name].process
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._members.clear()

    def _signal(self, name: str, how: signal.Signals) -> None:
        self._members[name].process.send_signal(how)


def jpeg(seed: int, number: int) -> bytes:
    """Return a different 256×256 JPEG for each device and number, with one red rectangle."""
    rng = np.random.default_rng([seed, number])
    image = rng.integers(60, 120, (32, 32, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    left, top = (int(each) for each in rng.integers(20, 190, 2))
    image[top : top + 40, left : left + 40] = (0, 0, 255)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@dataclass
class Device:
    """Sends its frames one after the other, and repeats each until it is accepted."""

    device_id: str
    token: str
    urls: Sequence[str]
    frames: int
    interval_s: float
    seed: int
    on_accepted: Callable[[], None]
    attempts_each: int = 600
    forgets: float = 0.0
    """The share of frames whose 202 the device loses, so that it sends them again, at once or later."""
    query: Mapping[str, str] = field(default_factory=dict)
    """More parameters of each frame, for example its flight."""
    picture: Callable[[int, int], bytes] = jpeg
    """Makes the picture of a seed and a number."""
    accepted: list[UUID] = field(default_factory=list)
    attempts: int = 0
    odd_responses: list[str] = field(default_factory=list)
    """Responses other than 202, 429 and 503."""

    async def run(self, session: aiohttp.ClientSession, stop: asyncio.Event | None = None) -> None:
        """Send all frames, or until ``stop`` is set."""
        rng = random.Random(self.seed)
        for number in range(self.frames):
            if stop is not None and stop.is_set():
                return
            started = time.monotonic()
            if rng.random() < self.forgets:
                await self._try(session, number, rng.choice(self.urls), rng.uniform(0.01, 0.1))
            self.accepted.append(await self._send(session, number, rng))
            self.on_accepted()
            if rng.random() < self.forgets:
                await self._send_again(session, max(0, number - rng.randrange(4)), rng)
            # Drones do not send at the same moments.
            pause_s = self.interval_s * rng.uniform(0.5, 1.5) - (time.monotonic() - started)
            await asyncio.sleep(max(0.0, pause_s))

    async def _send_again(self, session: aiohttp.ClientSession, number: int, rng: random.Random) -> None:
        known = self.accepted[number]
        again = await self._send(session, number, rng)
        assert again == known, f"{self.device_id} frame {number} was {known}, sent again it is {again}"

    async def _send(self, session: aiohttp.ClientSession, number: int, rng: random.Random) -> UUID:
        result: UUID | str = "nothing"
        for _ in range(self.attempts_each):
            result = await self._try(session, number, rng.choice(self.urls), _REQUEST_TIMEOUT_S)
            if isinstance(result, UUID):
                return result
            await asyncio.sleep(0.2)
        raise AssertionError(f"{self.device_id} frame {number} was never accepted; last response: {result}")

    async def _try(self, session: aiohttp.ClientSession, number: int, url: str, timeout_s: float) -> UUID | str:
        """Send the frame once; return its id, or the reason why it was not accepted."""
        self.attempts += 1
        try:
            async with session.post(
                url,
                params={**self.query, "captured_at": format_utc(START + timedelta(seconds=number))},
                data=self.picture(self.seed, number),
                headers={"X-API-Token": self.token, "Content-Type": "image/jpeg"},
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                result = await response.text()
                if response.status == 202:
                    return UUID((await response.json())["frame_id"])
                if response.status not in (429, 503):
                    self.odd_responses.append(f"{response.status}: {result[:500]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            result = repr(error)
        return result
