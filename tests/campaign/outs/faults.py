"""Lists the faults of this campaign, one after the other: kills of each sink, and what breaks outside of them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from tests.campaign.outs.listeners import StalledClients
from tests.campaign.outs.site import BYSTANDER, DATABASE_SINKS, REPOSITORY, OutsSite

_READY_TIMEOUT_S = 60.0
_DURING_START = 0.25
"""The share of kills that hit a process while it starts"""
_START_S = 2.5
_WORK_S = 1.5
_STALLED = 20


@dataclass(frozen=True)
class OutsOptions:
    """Says how long and how often."""

    seed: int = 7
    kills: int = 20
    quiet_s: float = 60.0
    hold_s: float = 15.0
    """How long the database is away, its disk full and its password unknown, how long LakeFS hangs, and so on"""
    answer_s: float = 8.0
    """How long LakeFS gives each of its answers"""
    outage_s: float = 60.0
    """How long Annotations is away"""
    only: tuple[str, ...] = ()
    """The faults whose names begin so; all when empty"""


@dataclass(frozen=True)
class OutsFault:
    """Is one fault: ``act`` begins it, waits and ends it."""

    name: str
    hits: frozenset[str]
    """The sinks that use what is broken; all others are healthy"""
    act: Callable[[], Awaitable[int]]
    """Returns how many faults there were"""


def faults_of(site: OutsSite, options: OutsOptions) -> list[OutsFault]:
    """Return the wanted faults that are possible at ``site``, in their order."""
    found = [
        *_kills(site, options),
        *_database_faults(site, options),
        *(_lakefs_faults(site, options) if "lakefs" in site.sinks else ()),
    ]
    if "annotations" in site.sinks:
        found.append(OutsFault("Annotations is away", frozenset({"annotations"}), _annotations_away(site, options)))
    if "sse" in site.sinks:
        found.append(OutsFault("live clients that never read", frozenset(), _stalled_clients(site, options)))
    return [each for each in found if not options.only or each.name.startswith(options.only)]


def _kills(site: OutsSite, options: OutsOptions) -> Iterator[OutsFault]:
    """Yield the kills of a process that nobody needs, then those of each sink."""
    for name in (BYSTANDER, *site.sinks):
        hits = frozenset({name}) & frozenset(site.sinks)
        yield OutsFault(f"kill {name}", hits, _killing(site, name, options))


def _killing(site: OutsSite, name: str, options: OutsOptions) -> Callable[[], Awaitable[int]]:
    async def act() -> int:
        rng = random.Random(f"{options.seed} {name}")
        if name == BYSTANDER:
            site.fleet.bring_up(name)
        for _ in range(options.kills):
            if rng.random() < _DURING_START:
                await asyncio.sleep(rng.uniform(0.0, _START_S))
            else:
                await site.wait_until_ready(name, timeout_s=_READY_TIMEOUT_S)
                await asyncio.sleep(rng.uniform(0.0, _WORK_S))
            site.fleet.kill(name)
        if name == BYSTANDER:
            await site.wait_until_ready(name, timeout_s=_READY_TIMEOUT_S)
            site.fleet.take_down(name)
        return options.kills

    return act


def _database_faults(site: OutsSite, options: OutsOptions) -> Iterator[OutsFault]:
    database, hits = site.database, DATABASE_SINKS & frozenset(site.sinks)

    async def restart() -> int:
        await database.quit(signal.SIGINT)
        await asyncio.sleep(options.hold_s)
        await database.start()
        return 1

    async def fill() -> int:
        assert site.disk is not None
        await asyncio.to_thread(site.disk.fill)
        try:
            await asyncio.sleep(options.hold_s)
        finally:
            site.disk.free()
        # A server that could not write its log has ended.
        await database.start()
        return 1

    async def rotate() -> int:
        fresh = f"secret-{random.Random(options.seed).getrandbits(64):x}"
        await database.change_password(fresh)
        await asyncio.sleep(options.hold_s)
        database.write_url(fresh)
        return 1

    yield OutsFault("PostgreSQL is restarted", hits, restart)
    if site.disk is not None:
        yield OutsFault("PostgreSQL's disk is full", hits, fill)
    yield OutsFault("PostgreSQL's password is rotated", hits, rotate)


def _lakefs_faults(site: OutsSite, options: OutsOptions) -> Iterator[OutsFault]:
    """Yield what a LakeFS server was seen to answer, each for some seconds, and one that hangs."""
    server, repository = site.lakefs, site.lakefs.repositories[REPOSITORY]

    def to(method: str, part: str, status: int, message: str) -> Callable[[str], web.Response | None]:
        def answer(called: str) -> web.Response | None:
            hit = called.startswith(method) and part in called
            return web.json_response({"message": message}, status=status) if hit else None

        return answer

    def somebody_was_faster(called: str) -> web.Response | None:
        """Commit what the sink has staged in the name of somebody else, just before its own commit."""
        if not (called.startswith("POST") and called.endswith("/commits")):
            return None
        repository.commit("main", "a commit of somebody else", {})
        return web.json_response({"message": "commit: no changes"}, status=400)

    def page(called: str) -> web.Response:
        return web.Response(text="<!doctype html><title>lakeFS</title>", content_type="text/html")

    given: dict[str, Callable[[str], web.Response | None]] = {
        "409": to("P", "", 409, "conflict"),
        "500 predicate failed": to("POST", "/commits", 500, "commit: update branch: predicate failed"),
        "400 no changes": somebody_was_faster,
        "200 with a web page": page,
        "410": to("GET", "/objects", 410, "resource is gone: no such key in storage"),
        "403": to("P", "", 403, "cannot write to protected branch"),
        "429": to("", "", 429, "too many requests"),
        "503": to("", "", 503, "service unavailable"),
    }
    for name, answer in given.items():
        yield _lakefs_fault(name, lambda answer=answer: setattr(server, "answers", answer), site, options.answer_s)  # type: ignore[misc]
    yield _lakefs_fault("responses are lost", lambda: setattr(server, "lose_responses", 1_000), site, options.answer_s)
    yield _lakefs_fault("hangs", lambda: setattr(server, "hang_s", options.hold_s), site, options.hold_s)


def _lakefs_fault(name: str, begin: Callable[[], None], site: OutsSite, hold_s: float) -> OutsFault:
    server = site.lakefs

    async def act() -> int:
        begin()
        await asyncio.sleep(hold_s)
        server.answers, server.lose_responses, server.hang_s = (lambda called: None), 0, 0.0
        return 1

    return OutsFault(f"LakeFS: {name}", frozenset({"lakefs"}), act)


def _annotations_away(site: OutsSite, options: OutsOptions) -> Callable[[], Awaitable[int]]:
    async def act() -> int:
        site.annotations_gate.shut()
        await asyncio.sleep(options.outage_s)
        site.annotations_gate.reopen()
        return 1

    return act


def _stalled_clients(site: OutsSite, options: OutsOptions) -> Callable[[], Awaitable[int]]:
    async def act() -> int:
        clients = StalledClients(site, _STALLED)
        clients.connect()
        await asyncio.sleep(options.hold_s)
        clients.close()
        return _STALLED

    return act
