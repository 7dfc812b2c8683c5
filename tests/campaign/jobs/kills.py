"""Kills every process and server while a job is done, and asks all the time whether its status is true."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.campaign.jobs.client import JobClient, Times, pictures
from tests.campaign.jobs.site import SERVICES, JobFleet

logger = logging.getLogger(__name__)

_ASK_S = 0.05
_TIMEOUT_S = 300.0
_ENDED = """
SELECT count(*) FILTER (WHERE f.status = 'failed') AS failed,
    count(*) FILTER (WHERE f.status = 'completed') AS completed,
    count(*) FILTER (WHERE s.id IS NOT NULL) AS sessions, j.status, j.processed_images
FROM jobs AS j JOIN job_files AS f ON f.job_id = j.id LEFT JOIN inference_sessions AS s ON s.id = f.session_id
WHERE j.job_id = $1 GROUP BY j.id
"""


@dataclass(frozen=True)
class Kills:
    """Says what is killed, and how often."""

    files: int = 100
    broken: int = 5
    times: int = 2
    """How often each process, the database and the broker"""
    seed: int = 1
    only: tuple[str, ...] = ()
    """What is killed; everything when empty"""


@dataclass
class KillsAccount:
    """Says what became of the job, and what was asked meanwhile."""

    results: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return what is printed."""
        found = vars(self).copy()
        return found | {"problems": len(self.problems), "seconds": round(self.seconds, 1)}


class _Job:
    """Is the job of one campaign, with those that watch it."""

    def __init__(self, site: JobFleet, kills: Kills, session: aiohttp.ClientSession) -> None:
        self.account = KillsAccount()
        self.processed = 0
        self.is_over = asyncio.Event()
        self._asked = asyncio.Event()
        self._site = site
        self._kills = kills
        self._session = session
        self._times = Times(refused=self.account.refused)
        self._client = JobClient(session, site.console, site.keys[0], self._times)
        self._job_id = ""

    async def make(self) -> None:
        """Upload the pictures, damage some of them where they are stored, and ask for the job."""
        sent = await self._client.upload(pictures(0, self._kills.files))
        upload_id = sent.data["upload_id"]
        async with self._site.database.connected() as connection:
            rows = await connection.fetch(
                "SELECT image_uri FROM uploaded_files AS f JOIN uploads AS u ON u.id = f.upload_id "
                "WHERE u.upload_id = $1 ORDER BY position",
                upload_id,
            )
        chosen = random.Random(self._kills.seed).sample([row["image_uri"] for row in rows], self._kills.broken)
        for uri in chosen:
            path = Path(urlsplit(uri).path)
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:500])
        made = await self._client.predict(upload_id)
        self._job_id = made.data["job_id"]

    async def reach(self, processed: int) -> None:
        """Return when so many files have an end, or the job is over."""
        while self.processed < processed and not self.is_over.is_set():
            self._asked.clear()
            await self._asked.wait()

    async def ask(self) -> None:
        """Ask for the status until the job is over; each response is compared with the rows of that moment."""
        former: tuple[int, int] = (0, 0)
        async with asyncio.timeout(_TIMEOUT_S):
            while not self.is_over.is_set():
                answer = await self._client.status(self._job_id)
                if answer.status == 200:
                    self.account.asked += 1
                    now = self._place(answer.data)
                    if now < former:
                        self.account.problems.append(f"status went back from {former} to {now}")
                    former, self.processed = now, now[1]
                    await self._compare(answer.data)
                elif answer.status not in (0, 503):
                    self.account.problems.append(f"status: {answer.status} {answer.body}")
                self._asked.set()
                await asyncio.sleep(_ASK_S)

    async def _compare(self, data: dict[str, Any]) -> None:
        """The rows are read later, so they may be further, and never behind."""
        try:
            async with self._site.database.connected() as connection:
                rows: Any = await connection.fetchrow(_ENDED, self._job_id)
        except (TimeoutError, OSError, Exception) as error:  # noqa: BLE001 (killed meanwhile: asked again)
            logger.debug("the rows are not known: %r", error)
            return
        progress, ended = data["progress"], rows["failed"] + rows["completed"]
        if progress["processed_images"] > ended or rows["sessions"] != rows["completed"]:
            self.account.problems.append(f"status says {progress}, and the rows {dict(rows)}")
        if rows["processed_images"] != ended:
            self.account.problems.append(f"the row of the job counts other than its files: {dict(rows)}")
        if data["status"] == "completed":
            if ended != self._kills.files:
                self.account.problems.append(f"completed, with {dict(rows)}")
            results = await self._client.request("results", "GET", f"/api/v1/jobs/{self._job_id}/results")
            if results.status == 200:
                self._note_results(results.data)
                self.is_over.set()

    def _note_results(self, data: Any) -> None:
        entries = data["results"]
        self.account.codes = Counter(each["error"]["code"] for each in entries if each.get("error"))
        self.account.results = sum(1 for each in entries if not each.get("error"))

    async def watch(self) -> None:
        """Follow the stream of progress, and connect again with the last id, until its end."""
        former, last = (0, 0), ""
        url = f"{self._site.console}/api/v1/jobs/{self._job_id}/events"
        while True:
            headers = self._client.headers | ({"Last-Event-ID": last} if last else {})
            try:
                async with self._session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(sock_read=5)) as found:
                    if found.status == 204:
                        return
                    name = ""
                    async for line in found.content:
                        field_name, _, value = line.decode().rstrip("\n").partition(": ")
                        if field_name == "id":
                            last = value
                        elif field_name == "event":
                            name = value
                        elif field_name == "data":
                            self.account.events += 1
                            now = self._place(json.loads(value))
                            if now < former:
                                self.account.problems.append(f"events went back from {former} to {now}")
                            former = now
                            if name == "end":
                                return
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.1)

    def _place(self, data: dict[str, Any]) -> tuple[int, int]:
        place = ("queued", "processing", "completed").index(data["status"])
        return place, data["progress"]["processed_images"]


async def run_kills(site: JobFleet, kills: Kills) -> KillsAccount:
    """Run the job on ``site``, and kill everything meanwhile."""
    async with aiohttp.ClientSession() as session:
        await site.wait_until_ready(session)
        job, began = _Job(site, kills, session), time.monotonic()
        await job.make()
        asking = asyncio.create_task(job.ask())
        watching = asyncio.create_task(job.watch())
        try:
            await _disturb(site, job, kills)
            async with asyncio.timeout(_TIMEOUT_S):
                await asyncio.gather(asking, watching)
        except TimeoutError:
            job.account.problems.append(f"not over after {_TIMEOUT_S:g} s")
        finally:
            for task in (asking, watching):
                task.cancel()
            await asyncio.gather(asking, watching, return_exceptions=True)
        account = job.account
        account.seconds = time.monotonic() - began
        await _check(site, kills, account)
        return account


async def _disturb(site: JobFleet, job: _Job, kills: Kills) -> None:
    """Kill one after the other while the job goes on, each at another part of its files."""
    chosen = random.Random(kills.seed)

    def kill(name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            site.fleet.take_down(name)
            await asyncio.sleep(chosen.uniform(0.0, 0.5))
            site.fleet.bring_up(name)

        return act

    async def kill_database() -> None:
        await site.database.quit(signal.SIGKILL)
        await asyncio.sleep(chosen.uniform(0.0, 0.5))
        await site.database.start()

    acts: dict[str, Callable[[], Awaitable[None]]] = {name: kill(name) for name in SERVICES}
    acts |= {"database": kill_database, "broker": lambda: site.disturb_broker(chosen.uniform(0.5, 1.5))}
    planned = [name for name in kills.only or acts for _ in range(kills.times)]
    chosen.shuffle(planned)
    for number, name in enumerate(planned):
        wanted = kills.files * number // (len(planned) + 1)
        await job.reach(wanted)
        if job.is_over.is_set():
            job.account.problems.append(f"the job was over before {name} was killed")
            return
        await asyncio.sleep(chosen.uniform(0.0, 0.1))
        logger.info("%d files done; %s is killed", job.processed, name)
        await acts[name]()
        job.account.faults[name] += 1


# A file that failed has a session, too, which says why.
RESULTS = "SELECT count(*) FROM inference_sessions WHERE job_id IS NOT NULL AND status = 'success'"


async def _check(site: JobFleet, kills: Kills, account: KillsAccount) -> None:
    """Compare all rows with what was asked for: each file once."""
    good = kills.files - kills.broken
    async with site.database.connected() as connection:
        sessions = await connection.fetchval(RESULTS)
        ends = await connection.fetchval("SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL")
    if (account.results, account.codes.total()) != (good, kills.broken):
        account.problems.append(f"{account.results} results and {dict(account.codes)}")
    if (sessions, ends) != (good, 1):
        account.problems.append(f"{sessions} results in the tables, {ends} jobs that have ended")
