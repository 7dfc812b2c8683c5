"""Sends what the sinks get: frames of devices, some of them damaged, and media and jobs of a client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import aiohttp

from tests.campaign.jobs.client import Answer, JobClient, Times
from tests.campaign.outs.site import CALLERS_TOKEN, OutsSite
from tests.faults.fleet import Device, jpeg

FLIGHT = "flight-1"
"""The flight of every second device."""
_BROKEN_EVERY = 20
_ENDLESS = 1_000_000
_END = b"\xff\xd9"
_TRIES_PAUSE_S = 0.5
_CLIENT_SEED = 1_000_000
_JOB_FILES = 5
_ENDS_TIMEOUT_S = 120.0


def is_broken(number: int) -> bool:
    """Return whether the picture ``number`` of a device is damaged, so that no detector can decode it."""
    return number % _BROKEN_EVERY == _BROKEN_EVERY - 1


def picture(seed: int, number: int) -> bytes:
    """Return the picture of a device; a damaged one lacks half of its data, not the mark of its end."""
    data = jpeg(seed, number)
    return data[: len(data) // 2] + _END if is_broken(number) else data


@dataclass(frozen=True)
class Rates:
    """Says how much is sent."""

    devices: int = 4
    interval_s: float = 0.8
    """The time between two frames of one device"""
    medium_s: float = 1.0
    """The time between two media"""
    job_every: int = 50
    """A job is made after so many media"""


@dataclass
class Client:
    """Sends pictures as media with a token for Annotations, and from time to time a job; each until it is accepted."""

    site: OutsSite
    rates: Rates
    media: list[str] = field(default_factory=list)
    """The media that were accepted"""
    jobs: dict[str, int] = field(default_factory=dict)
    """How many files each accepted job has"""

    async def run(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        """Send until ``stop`` is set; what is in progress then is still sent."""
        rng, number = random.Random(1), 0
        asking = JobClient(session, self.site.url("console"), self.site.key, Times())
        while not stop.is_set():
            medium = f"medium-{number}"
            await self._send_medium(session, medium, jpeg(_CLIENT_SEED, number))
            self.media.append(medium)
            if number % self.rates.job_every == 0:
                await self._make_job(asking, number)
            number += 1
            await asyncio.sleep(self.rates.medium_s * rng.uniform(0.5, 1.5))

    async def _send_medium(self, session: aiohttp.ClientSession, medium: str, data: bytes) -> None:
        """Send a medium until it is accepted; 409 says that it was before, and that its response was lost."""
        headers = {"X-API-Key": self.site.key, "Authorization": f"Bearer {CALLERS_TOKEN}", "Content-Type": "image/jpeg"}
        url = f"{self.site.url('console')}/detect/{medium}"
        while True:
            try:
                async with session.post(url, data=data, headers=headers) as response:
                    if response.status in (202, 409):
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass  # Sent again, as after every other response.
            await asyncio.sleep(_TRIES_PAUSE_S)

    async def _make_job(self, asking: JobClient, number: int) -> None:
        files = [jpeg(_CLIENT_SEED + 1, number * _JOB_FILES + place) for place in range(_JOB_FILES)]
        uploaded = await _until_success(lambda: asking.upload(files))
        made = await _until_success(lambda: asking.predict(uploaded.data["upload_id"]))
        self.jobs[made.data["job_id"]] = _JOB_FILES


async def _until_success(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until it is a success."""
    while True:
        answer = await ask()
        if answer.is_success:
            return answer
        await asyncio.sleep(_TRIES_PAUSE_S)


@dataclass
class Load:
    """Holds all senders."""

    devices: Sequence[Device]
    client: Client | None

    @property
    def frames(self) -> dict[str, list[UUID]]:
        """The accepted frames of each device that can be decoded, in order."""
        return self._frames(broken=False)

    @property
    def broken(self) -> dict[str, list[UUID]]:
        """The accepted frames of each device that no detector can decode."""
        return self._frames(broken=True)

    def _frames(self, *, broken: bool) -> dict[str, list[UUID]]:
        return {
            device.device_id: [each for number, each in enumerate(device.accepted) if is_broken(number) == broken]
            for device in self.devices
        }


def make_load(site: OutsSite, rates: Rates) -> Load:
    """Make the senders of ``site``."""
    devices = [
        Device(
            device_id=name,
            token=token,
            urls=[f"{site.url('gateway')}/api/v1/frames"],
            frames=_ENDLESS,
            interval_s=rates.interval_s,
            seed=seed,
            on_accepted=lambda: None,
            attempts_each=_ENDLESS,
            forgets=0.02,
            query={"flight": FLIGHT} if seed % 2 else {},
            picture=picture,
        )
        for seed, (name, token) in enumerate(site.tokens.items())
    ]
    return Load(devices, Client(site, rates) if "annotations" in site.sinks else None)


@asynccontextmanager
async def sending(load: Load) -> AsyncIterator[None]:
    """Send inside the block, and until all that is in progress is accepted.

    Raises the error of a sender, and TimeoutError when the last frames are not accepted in time.
    """
    stop = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout) as session:
        tasks = [asyncio.create_task(device.run(session, stop)) for device in load.devices]
        if load.client is not None:
            tasks.append(asyncio.create_task(load.client.run(session, stop)))
        try:
            yield
            stop.set()
            async with asyncio.timeout(_ENDS_TIMEOUT_S):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
