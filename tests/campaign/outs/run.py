"""Runs the campaign: one fault after the other while everything is sent, then an account of all sinks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.brokers import BrokerName
from tests.campaign.outs.faults import OutsFault, OutsOptions, faults_of
from tests.campaign.outs.lag import LagWatch
from tests.campaign.outs.listeners import Listeners, listening
from tests.campaign.outs.load import Load, Rates, make_load, sending
from tests.campaign.outs.reconcile import reconcile
from tests.campaign.outs.report import OutsReport, Phase
from tests.campaign.outs.site import ALL_SINKS, OutsSite, open_site
from tests.campaign.processes import ProcessWatcher
from tests.campaign.schedule import PlanError

logger = logging.getLogger(__name__)

_CATCH_UP_TIMEOUT_S = 300.0
_STILL_S = 1.0
_FEW = 5
"""So few records are not behind, whatever is usual"""
_QUIET_END_S = 2.0
_WARM_UP_TIMEOUT_S = 60.0
_WARM_UP_FRAMES = 3
_WARM_UP_LAG = 20


@dataclass(frozen=True)
class OutsCampaign:
    """Says what a campaign has."""

    broker: BrokerName = "embedded"
    sinks: tuple[str, ...] = ALL_SINKS
    options: OutsOptions = field(default_factory=OutsOptions)
    rates: Rates = field(default_factory=Rates)
    clients: int = 3


async def run(campaign: OutsCampaign, folder: Path) -> OutsReport:
    """Run a campaign with all files in ``folder``. Raises PlanError when none of the wanted faults is possible."""
    began = time.monotonic()
    report = OutsReport(campaign.broker, campaign.options.seed, folder / "logs")
    async with open_site(folder, campaign.broker, campaign.sinks, campaign.rates.devices) as site:
        faults = faults_of(site, campaign.options)
        if not faults:
            raise PlanError(f"no fault begins with one of {', '.join(campaign.options.only)}")
        await site.start()
        async with listening(site, campaign.clients) as listeners, _watching(site, listeners) as (watch, watcher):
            load = make_load(site, campaign.rates)
            async with sending(load):
                await _warm_up(load, watch)
                report.phases.append(await _quiet(watch, campaign.options.quiet_s))
                for number, fault in enumerate(faults, start=1):
                    logger.info("%d of %d: %s", number, len(faults), fault.name)
                    report.phases.append(await _phase(fault, watch, report.phases[0]))
                    logger.info("%s", report.phases[-1].figures(report.phases[0]))
                # Again, because other work on the machine comes and goes.
                report.phases.append(await _quiet(watch, campaign.options.quiet_s))
            report.errors += await _wait_until_complete(site, load, listeners, watch)
            report.unready = await site.wait_until_ready(*site.services)
            report.account = await reconcile(site, load, listeners)
            report.ended = watcher.ended
            report.odd_responses = [
                response
                for device in load.devices
                for response in device.odd_responses
                # The campaign's own process was too slow to send a request's head, on a busy machine.
                if not response.startswith("408")
            ]
    report.seconds = time.monotonic() - began
    return report


@asynccontextmanager
async def _watching(site: OutsSite, listeners: Listeners) -> AsyncIterator[tuple[LagWatch, ProcessWatcher]]:
    """Sample lags and watch processes inside the block."""
    watch, watcher = LagWatch(site, listeners), ProcessWatcher(site.fleet)
    tasks = [asyncio.create_task(watch.watch()), asyncio.create_task(watcher.watch())]
    try:
        yield watch, watcher
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error


async def _warm_up(load: Load, watch: LagWatch) -> None:
    """Return when each device has sent some frames and no sink is far behind: everything is slower at first."""
    async with asyncio.timeout(_WARM_UP_TIMEOUT_S):
        while True:
            sent = min(len(device.accepted) for device in load.devices)
            if max((await watch.next()).values()) <= _WARM_UP_LAG and sent >= _WARM_UP_FRAMES:
                return


async def _quiet(watch: LagWatch, seconds: float) -> Phase:
    """Measure without a fault."""
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return Phase("quiet", 0, seconds, 0.0, watch.between(began, time.monotonic()))


async def _phase(fault: OutsFault, watch: LagWatch, quiet: Phase) -> Phase:
    """Let one fault happen, and wait until every sink is as far as without it."""
    began = time.monotonic()
    count = await fault.act()
    ended = time.monotonic()
    usual = {name: lag.most for name, lag in quiet.lags.items()}
    caught_up = await _caught_up(watch, usual)
    until = time.monotonic()
    return Phase(fault.name, count, ended - began, caught_up - ended, watch.between(began, until), fault.hits)


async def _caught_up(watch: LagWatch, usual: Mapping[str, int]) -> float:
    """Return since when no sink is further behind than usual, for some time; after a long time, now."""
    deadline = time.monotonic() + _CATCH_UP_TIMEOUT_S
    since: float | None = None
    while True:
        behind = {name: lag for name, lag in (await watch.next()).items() if lag > max(_FEW, usual[name])}
        now = time.monotonic()
        since = None if behind else since or now
        if since is not None and now - since >= _STILL_S:
            return since
        if now > deadline:
            logger.warning("still behind after %g s: %s", _CATCH_UP_TIMEOUT_S, behind)
            return now


async def _wait_until_complete(site: OutsSite, load: Load, listeners: Listeners, watch: LagWatch) -> list[str]:
    """Return when no sink lags, and nothing waits in the tables; the errors say what does after a long time."""
    logger.info("all faults have ended; the campaign waits for the rest")
    deadline = time.monotonic() + _CATCH_UP_TIMEOUT_S
    still_since = time.monotonic()
    while time.monotonic() < deadline:
        waiting = {name: lag for name, lag in (await watch.next()).items() if lag} | await _unfinished(site)
        if waiting:
            still_since = time.monotonic()
        elif time.monotonic() - still_since >= _QUIET_END_S:
            return []
        await asyncio.sleep(0.5)
    return [f"after {_CATCH_UP_TIMEOUT_S:g} s still behind: {waiting}"]


_UNFINISHED = {
    "media": "SELECT count(*) FROM media_runs WHERE finished_at IS NULL",
    "jobs": "SELECT count(*) FROM jobs WHERE finished_at IS NULL",
    "commits": "SELECT count(*) FROM archive_pending",
    "statistics": "SELECT count(*) FROM statistics_state WHERE revision > published",
    "web-hooks": "SELECT count(*) FROM webhook_deliveries WHERE state = 'waiting'",
}


async def _unfinished(site: OutsSite) -> dict[str, int]:
    """Return how many rows of the tables wait, by what they are."""
    async with site.database.connected() as connection:
        found = {name: await connection.fetchval(query) for name, query in _UNFINISHED.items()}
    return {name: count for name, count in found.items() if count}
