"""Runs one campaign: devices send frames to the fleet, faults start and end, and every frame is accounted for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.campaign.brokers import BrokerName
from tests.campaign.clients import LiveClient
from tests.campaign.faults import clients as client_faults
from tests.campaign.faults import database, disk, inside, kafka, partitions, processes, store
from tests.campaign.faults.kind import Kind
from tests.campaign.processes import ProcessWatcher, unready
from tests.campaign.reconcile import reconcile
from tests.campaign.report import CampaignReport
from tests.campaign.schedule import FaultRunner, PlanError, plan
from tests.campaign.site import GROUPS, Site, Size, open_site
from tests.faults.fleet import Device

logger = logging.getLogger(__name__)

_FAULT_INTERVAL_S: dict[BrokerName, float] = {"embedded": 1.0, "kafka": 1.4, "kafka3": 3.0}
_START_TIMEOUT_S = 240.0
_CATCH_UP_TIMEOUT_S = 420.0
_STILL_S = 120.0
"""Without progress for this long, missing frames count as lost."""
_PROGRESS_S = 10.0
_ENDLESS = 1_000_000


@dataclass(frozen=True)
class CampaignOptions:
    """The options of one campaign."""

    events: int
    broker: BrokerName
    seed: int
    store: str = "folder"
    size: Size = field(default_factory=Size)
    only: tuple[str, ...] = ()
    """The kinds of faults to draw from; all when empty."""
    without: tuple[str, ...] = ()
    """The kinds of faults to leave out."""
    interval_s: float | None = None
    quiet_s: float = 5.0
    """The time to wait for repeated events after all expected ones have arrived."""


@dataclass
class Campaign:
    """One campaign in progress."""

    site: Site
    devices: list[Device]
    clients: list[LiveClient]
    watcher: ProcessWatcher

    @property
    def accepted(self) -> int:
        """The number of frames accepted so far."""
        return sum(len(device.accepted) for device in self.devices)

    def kinds(self, options: CampaignOptions) -> list[Kind]:
        """Return the wanted kinds of faults that are possible on this site; raise PlanError if there is none."""
        site = self.site
        found = [
            *processes.kinds(site.fleet, self.watcher),
            *database.kinds(site.database),
            *inside.kinds(site.fault_files),
            *disk.kinds(site.disk),
            *store.kinds(site.s3),
            *client_faults.kinds(self.clients, site.sse_urls),
            *kafka.kinds(site.broker),
            *partitions.kinds(site),
        ]
        wanted = [
            kind
            for kind in found
            if kind.name not in options.without and (not options.only or kind.name in options.only)
        ]
        if not wanted:
            names = ", ".join(kind.name for kind in found)
            raise PlanError(f"no wanted kind of fault is possible here; possible kinds: {names}")
        return wanted


async def run(options: CampaignOptions, folder: Path) -> CampaignReport:
    """Run a campaign with all files in ``folder``; raise PlanError when its faults are not possible."""
    began = time.monotonic()
    report = CampaignReport(options.broker, options.seed, folder / "logs")
    async with open_site(folder, options.broker, options.size, options.store) as site, _start_fleet(site) as campaign:
        interval_s = options.interval_s or _FAULT_INTERVAL_S[options.broker]
        runner = FaultRunner(plan(campaign.kinds(options), options.events, interval_s, options.seed))
        stop = asyncio.Event()
        async with _send_frames(campaign, stop) as sending:
            await _wait_until_everything_works(campaign, sending)
            await _run_faults(runner, campaign)
            await site.broker.wait_until_complete()
            stop.set()
            report.errors += await _wait_for_devices(sending)
        report.errors += await _wait_until_caught_up(campaign, options.quiet_s)
        report.unready = await _wait_until_ready(site)
        report.account = await reconcile(site, campaign.devices, campaign.clients)
        report.faults, report.ended = runner.done, campaign.watcher.ended
        report.errors += runner.errors
        report.odd_responses = [response for device in campaign.devices for response in device.odd_responses]
        report.attempts = sum(device.attempts for device in campaign.devices)
    report.seconds = time.monotonic() - began
    return report


@asynccontextmanager
async def _start_fleet(site: Site) -> AsyncIterator[Campaign]:
    """Start the fleet and connect all live clients before the first frame."""
    async with AsyncExitStack() as stack:
        for name in site.fleet.names():
            site.fleet.bring_up(name)
        watcher = ProcessWatcher(site.fleet)
        watching = asyncio.create_task(watcher.watch())
        stack.callback(watching.cancel)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        clients = [LiveClient(f"client-{number}", session) for number in range(1, site.size.clients + 1)]
        for number, client in enumerate(clients, start=1):
            client.connect(site.sse_urls[number % len(site.sse_urls)])
            stack.push_async_callback(client.disconnect)
        await asyncio.gather(*(client.wait_until_connected() for client in clients))
        yield Campaign(site, _devices(site), clients, watcher)


def _devices(site: Site) -> list[Device]:
    """Return devices that send until they are stopped, each frame until it is accepted."""
    return [
        Device(
            device_id=name,
            token=token,
            urls=site.gateway_urls,
            frames=_ENDLESS,
            interval_s=site.size.interval_s,
            seed=seed,
            on_accepted=lambda: None,
            attempts_each=_ENDLESS,
            forgets=0.1,
        )
        for seed, (name, token) in enumerate(site.tokens.items())
    ]


@asynccontextmanager
async def _send_frames(campaign: Campaign, stop: asyncio.Event) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Let all devices send inside the block, until ``stop`` is set."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        tasks = [asyncio.create_task(device.run(session, stop)) for device in campaign.devices]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _wait_until_everything_works(campaign: Campaign, sending: Sequence[asyncio.Task[None]]) -> None:
    """Return when every client has seen an event; from then on it knows where to continue."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not all(client.seen for client in campaign.clients) or await unready(campaign.site.health_urls):
        for task in sending:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the fleet did not work within {_START_TIMEOUT_S:g} s: {await unready(campaign.site.health_urls)}"
            )
        await asyncio.sleep(0.2)
    logger.info("the fleet works, %d frames accepted; faults begin", campaign.accepted)


async def _run_faults(runner: FaultRunner, campaign: Campaign) -> None:
    async def log_progress() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            seen = [client.seen for client in campaign.clients]
            logger.info("%d faults, %d frames accepted, clients saw %s", runner.done.total(), campaign.accepted, seen)

    logging_task = asyncio.create_task(log_progress())
    try:
        await runner.run()
    finally:
        logging_task.cancel()
    for fault_file in campaign.site.fault_files.values():
        fault_file.shift_clock(0)
    logger.info("all %d faults have ended; the campaign waits for the detections of every frame", runner.done.total())


async def _wait_for_devices(sending: Sequence[asyncio.Task[None]]) -> list[str]:
    """Wait for the devices; return the errors that kept their last frame from being accepted."""
    await asyncio.wait(sending, timeout=_CATCH_UP_TIMEOUT_S)
    errors = []
    for task in sending:
        if not task.done():
            task.cancel()
            errors.append("a device's last frame was not accepted")
        elif error := task.exception():
            errors.append(repr(error))
    return errors


async def _wait_until_caught_up(campaign: Campaign, quiet_s: float) -> list[str]:
    """Return when no group lags, tables and clients have every frame, and no more events arrive."""
    began = quiet_since = moved_at = logged_at = time.monotonic()
    former: dict[str, int] = {}
    while True:
        behind, now = await _behind(campaign), time.monotonic()
        if behind != former:
            former, moved_at = behind, now
        if behind:
            quiet_since = now
        if now - quiet_since > quiet_s:
            return []
        if now - began > _CATCH_UP_TIMEOUT_S or now - moved_at > _STILL_S:
            return [f"after {now - began:.0f} s still behind: {behind}"]
        if behind and now - logged_at > _PROGRESS_S:
            logged_at = now
            logger.info("still behind: %s", behind)
        await asyncio.sleep(0.5)


async def _behind(campaign: Campaign) -> dict[str, int]:
    """Return the number of missing frames or records by place, without the places that miss none."""
    wanted = campaign.accepted
    found = {client.name: wanted - client.seen for client in campaign.clients}
    try:
        found["groups"] = await campaign.site.broker.lag(GROUPS)
        async with campaign.site.database.connected() as connection:
            stored = await connection.fetchval("SELECT count(*) FROM inference_sessions WHERE status = 'success'")
            found["tables"] = wanted - stored
    except Exception as error:  # noqa: BLE001 (any error: asked again)
        logger.warning("the progress is unknown: %r", error)
        found["unknown"] = 1
    return {name: count for name, count in found.items() if count > 0}


async def _wait_until_ready(site: Site) -> dict[str, str]:
    """Wait until all processes are ready; return the reports of those that are not in time."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        found = await unready(site.health_urls)
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)
