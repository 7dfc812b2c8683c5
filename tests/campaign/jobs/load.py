"""Measures the console, and live frames, while many clients make jobs and ask for their status (C-S2-120, C-S2-123)."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.measure import percentile
from tests.campaign.jobs.client import Answer, JobClient, Times, pictures
from tests.campaign.jobs.kills import RESULTS
from tests.campaign.jobs.live import live_frames
from tests.campaign.jobs.site import JobFleet

logger = logging.getLogger(__name__)

_PROGRESS_S = 10.0
_OPEN = ("queued", "processing")


@dataclass(frozen=True)
class Load:
    """Says how much is asked for."""

    jobs: int = 1_000
    files: int = 10
    clients: int = 50
    askers: int = 1_000
    ask_s: tuple[float, float] = (2.0, 5.0)
    """The time between two requests of one asker, from and to; seed of the API: 2 to 5 s."""
    watchers: int = 200
    """Streams of progress beside them"""
    quiet_s: float = 15.0
    """How long live frames are measured without jobs"""


@dataclass
class Measured:
    """Holds what was measured."""

    times: Times = field(default_factory=Times)
    live_alone: list[float] = field(default_factory=list)
    live_beside: list[float] = field(default_factory=list)
    events: int = 0
    """Events of progress that watchers got"""
    ended: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    processor_s: dict[str, float] = field(default_factory=dict)
    """Processor time of each process beside the jobs; this one makes the load"""
    problems: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return what is printed."""
        found: dict[str, Any] = {"seconds": round(self.seconds, 1), "jobs": self.ended, "events": self.events}
        for kind, seconds in sorted(self.times.seconds.items()):
            found[kind] = _summary(seconds)
        found["live alone"], found["live beside jobs"] = _summary(self.live_alone), _summary(self.live_beside)
        found["live ratio of p95"] = round(percentile(self.live_beside, 95) / percentile(self.live_alone, 95), 2)
        found["processor_s"] = {name: round(seconds, 1) for name, seconds in self.processor_s.items()}
        found["refused"] = dict(self.times.refused)
        return found


def _summary(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {"count": 0}
    shares = {f"p{share}_ms": round(percentile(seconds, share) * 1_000, 1) for share in (50, 95, 99)}
    return {"count": len(seconds), **shares}


class _Run:
    """Is one run on a fleet."""

    def __init__(self, site: JobFleet, load: Load, session: aiohttp.ClientSession) -> None:
        self.measured = Measured()
        self._site = site
        self._load = load
        self._session = session
        self._jobs: list[tuple[str, JobClient]] = []
        self._ended: dict[str, str] = {}
        self._live = self.measured.live_alone

    def client(self, number: int) -> JobClient:
        keys = self._site.keys
        return JobClient(self._session, self._site.console, keys[number % len(keys)], self.measured.times)

    async def run(self) -> Measured:
        load, tasks = self._load, set[asyncio.Task[None]]()
        live = asyncio.create_task(self._send_live())
        logging_task = asyncio.create_task(self._log())
        try:
            await asyncio.sleep(load.quiet_s)
            self._live, began, used = self.measured.live_beside, time.monotonic(), self._site.processor_s()
            tasks |= {asyncio.create_task(self._ask(number)) for number in range(load.askers)}
            tasks |= {asyncio.create_task(self._watch(number)) for number in range(load.watchers)}
            await asyncio.gather(*(self._make_jobs(number) for number in range(load.clients)))
            await self._wait_for_ends()
            self.measured.seconds = time.monotonic() - began
            self.measured.processor_s = {name: s - used[name] for name, s in self._site.processor_s().items()}
        finally:
            for task in (live, logging_task, *tasks):
                task.cancel()
            await asyncio.gather(live, logging_task, *tasks, return_exceptions=True)
        await self._check()
        return self.measured

    async def _make_jobs(self, number: int) -> None:
        load, client = self._load, self.client(number)
        for place in range(number, load.jobs, load.clients):
            files = await asyncio.to_thread(pictures, place * load.files, load.files)
            sent = await self._until_taken(lambda: client.upload(files))  # noqa: B023 (awaited in this round)
            if sent.status >= 300 or sent.status == 0:
                self.measured.problems.append(f"upload {place}: {sent.status}")
                continue
            upload_id = sent.data["upload_id"]
            made = await self._until_taken(lambda: client.predict(upload_id))  # noqa: B023 (the same)
            if made.status != 202:
                self.measured.problems.append(f"job {place}: {made.status}")
                continue
            self._jobs.append((made.data["job_id"], client))

    async def _until_taken(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """Send again what a busy console refuses, as its Retry-After says."""
        while True:
            answer = await send()
            if answer.status not in (429, 503):
                return answer
            await asyncio.sleep(answer.retry_after_s * random.uniform(0.5, 1.0))

    async def _ask(self, number: int) -> None:
        """Ask for the status of one job after the other, each until its end."""
        chosen = random.Random(number)
        await asyncio.sleep(chosen.uniform(0, self._load.ask_s[1]))
        while True:
            if self._jobs:
                job_id, client = self._jobs[chosen.randrange(len(self._jobs))]
                answer = await client.status(job_id)
                if answer.status == 200 and answer.data["status"] not in _OPEN:
                    self._ended[job_id] = answer.data["status"]
            await asyncio.sleep(chosen.uniform(*self._load.ask_s))

    async def _watch(self, number: int) -> None:
        """Watch one job after the other, each to its end."""
        chosen = random.Random(-number)
        while True:
            await asyncio.sleep(chosen.uniform(0.5, 1.5))
            waiting = [each for each in self._jobs[-200:] if each[0] not in self._ended]
            if not waiting:
                continue
            job_id, client = chosen.choice(waiting)
            url = f"{self._site.console}/api/v1/jobs/{job_id}/events"
            async with self._session.get(url, headers=client.headers, timeout=None) as response:
                if response.status != 200:
                    self.measured.times.refused[f"events: {response.status}"] += 1
                    continue
                async for line in response.content:
                    self.measured.events += line.startswith(b"data:")

    async def _send_live(self) -> None:
        def took(seconds: float) -> None:
            self._live.append(seconds)

        def refused(text: str) -> None:
            self.measured.times.refused[f"live: {text}"] += 1

        gateway = self._site.urls["gateway"]
        await live_frames(gateway, self._site.token, took, refused)

    async def _wait_for_ends(self) -> None:
        """Wait until no job is open, as the database says."""
        async with self._site.database.connected() as connection:
            while await connection.fetchval("SELECT count(*) FROM jobs WHERE finished_at IS NULL"):
                self._site.fleet.check()
                await asyncio.sleep(0.5)

    async def _check(self) -> None:
        """Compare the rows of jobs, files and detections with what was asked for."""
        load, wanted = self._load, self._load.jobs * self._load.files
        async with self._site.database.connected() as connection:
            rows = await connection.fetch("SELECT status, count(*) AS jobs FROM jobs GROUP BY status")
            files = await connection.fetchval("SELECT count(*) FROM job_files WHERE status = 'completed'")
            sessions = await connection.fetchval(RESULTS)
        self.measured.ended = {row["status"]: row["jobs"] for row in rows}
        if self.measured.ended != {"completed": load.jobs}:
            self.measured.problems.append(f"jobs: {self.measured.ended}")
        if (files, sessions) != (wanted, wanted):
            self.measured.problems.append(f"{files} files with results, {sessions} results; wanted {wanted} of each")

    async def _log(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            async with self._site.database.connected() as connection:
                done = await connection.fetchval("SELECT count(*) FROM job_files WHERE finished_at IS NOT NULL")
            asked = len(self.measured.times.seconds["status"])
            logger.info("%d jobs made, %d files done, asked %d times", len(self._jobs), done, asked)


async def run_load(site: JobFleet, load: Load) -> Measured:
    """Run the load on ``site``."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await site.wait_until_ready(session)
        return await _Run(site, load, session).run()
