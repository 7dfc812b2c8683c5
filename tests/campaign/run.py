"""Runs one campaign: the fleet works, devices send, faults happen and are healed, and all frames are accounted for."""

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
from tests.campaign.processes import Warden, unready
from tests.campaign.reconcile import reconcile
from tests.campaign.report import Report
from tests.campaign.schedule import PlanError, Storm, plan
from tests.campaign.site import GROUPS, Site, Size, opened_site
from tests.faults.fleet import Device

logger = logging.getLogger(__name__)

_FAULT_INTERVAL_S: dict[BrokerName, float] = {"embedded": 1.0, "kafka": 1.4, "kafka3": 3.0}
_START_TIMEOUT_S = 240.0
_SETTLE_TIMEOUT_S = 420.0
_STILL_S = 120.0
"""How long nothing may move before what is missing is taken for lost."""
_PROGRESS_S = 10.0
_ENDLESS = 1_000_000


@dataclass(frozen=True)
class Order:
    """What campaign is wanted."""

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
    """How long nothing more may come after all has come: what is doubled would come now."""


@dataclass
class Campaign:
    """One campaign under way."""

    site: Site
    devices: list[Device]
    clients: list[LiveClient]
    warden: Warden

    @property
    def accepted(self) -> int:
        """How many frames were accepted by now."""
        return sum(len(device.accepted) for device in self.devices)

    def kinds(self, order: Order) -> list[Kind]:
        """The kinds of faults that are wanted and that this site can have. Raises PlanError when there is none."""
        site = self.site
        found = [
            *processes.kinds(site.fleet, self.warden),
            *database.kinds(site.database),
            *inside.kinds(site.controls),
            *disk.kinds(site.disk),
            *store.kinds(site.s3),
            *client_faults.kinds(self.clients, site.sse_urls),
            *kafka.kinds(site.broker),
            *partitions.kinds(site),
        ]
        wanted = [
            kind for kind in found if kind.name not in order.without and (not order.only or kind.name in order.only)
        ]
        if not wanted:
            names = ", ".join(kind.name for kind in found)
            raise PlanError(f"no kind of faults that is wanted can happen here; these can: {names}")
        return wanted


async def run(order: Order, folder: Path) -> Report:
    """Run ``order`` with all files in ``folder``. Raises PlanError when its faults cannot happen."""
    began = time.monotonic()
    report = Report(order.broker, order.seed, folder / "logs")
    async with opened_site(folder, order.broker, order.size, order.store) as site, _started(site) as campaign:
        interval_s = order.interval_s or _FAULT_INTERVAL_S[order.broker]
        storm = Storm(plan(campaign.kinds(order), order.events, interval_s, order.seed))
        stop = asyncio.Event()
        async with _sending(campaign, stop) as sending:
            await _until_everything_works(campaign, sending)
            await _rage(storm, campaign)
            await site.broker.until_whole()
            stop.set()
            report.errors += await _ended(sending)
        report.errors += await _settled(campaign, order.quiet_s)
        report.unready = await _unready_in_the_end(site)
        report.account = await reconcile(site, campaign.devices, campaign.clients)
        report.faults, report.ended = storm.done, campaign.warden.ended
        report.errors += storm.errors
        report.odd_answers = [answer for device in campaign.devices for answer in device.odd_answers]
        report.attempts = sum(device.attempts for device in campaign.devices)
    report.seconds = time.monotonic() - began
    return report


@asynccontextmanager
async def _started(site: Site) -> AsyncIterator[Campaign]:
    """The fleet runs, and all live clients are connected before the first frame."""
    async with AsyncExitStack() as stack:
        for name in site.fleet.names():
            site.fleet.bring_up(name)
        warden = Warden(site)
        watching = asyncio.create_task(warden.watch())
        stack.callback(watching.cancel)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        clients = [LiveClient(f"client-{number}", session) for number in range(1, site.size.clients + 1)]
        for number, client in enumerate(clients, start=1):
            client.follow(site.sse_urls[number % len(site.sse_urls)])
            stack.push_async_callback(client.leave)
        await asyncio.gather(*(client.until_connected() for client in clients))
        yield Campaign(site, _devices(site), clients, warden)


def _devices(site: Site) -> list[Device]:
    """Devices that send until they are stopped, each frame until it is accepted."""
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
async def _sending(campaign: Campaign, stop: asyncio.Event) -> AsyncIterator[list[asyncio.Task[None]]]:
    """All devices send inside the block, until ``stop`` is set."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        tasks = [asyncio.create_task(device.run(session, stop)) for device in campaign.devices]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _until_everything_works(campaign: Campaign, sending: Sequence[asyncio.Task[None]]) -> None:
    """Return when every client has seen an event: from then on it knows where to go on."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not all(client.seen for client in campaign.clients) or await unready(campaign.site):
        for task in sending:
            if task.done():
                task.result()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the fleet did not work within {_START_TIMEOUT_S:g} s: {await unready(campaign.site)}")
        await asyncio.sleep(0.2)
    logger.info("the fleet works, %d frames accepted; faults begin", campaign.accepted)


async def _rage(storm: Storm, campaign: Campaign) -> None:
    async def tell() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            seen = [client.seen for client in campaign.clients]
            logger.info("%d faults, %d frames accepted, clients saw %s", storm.done.total(), campaign.accepted, seen)

    telling = asyncio.create_task(tell())
    try:
        await storm.rage()
    finally:
        telling.cancel()
    for control in campaign.site.controls.values():
        control.shift_clock(0)
    logger.info("all %d faults are healed; waiting until everything is answered", storm.done.total())


async def _ended(sending: Sequence[asyncio.Task[None]]) -> list[str]:
    """What kept devices from having their last frame accepted."""
    await asyncio.wait(sending, timeout=_SETTLE_TIMEOUT_S)
    errors = []
    for task in sending:
        if not task.done():
            task.cancel()
            errors.append("a device's last frame was not accepted")
        elif error := task.exception():
            errors.append(repr(error))
    return errors


async def _settled(campaign: Campaign, quiet_s: float) -> list[str]:
    """Return when no group lags, all is in the tables and every client has seen all, and no more comes."""
    began = quiet_since = moved_at = told_at = time.monotonic()
    former: dict[str, int] = {}
    while True:
        behind, now = await _behind(campaign), time.monotonic()
        if behind != former:
            former, moved_at = behind, now
        if behind:
            quiet_since = now
        if now - quiet_since > quiet_s:
            return []
        if now - began > _SETTLE_TIMEOUT_S or now - moved_at > _STILL_S:
            return [f"after {now - began:.0f} s still behind: {behind}"]
        if behind and now - told_at > _PROGRESS_S:
            told_at = now
            logger.info("still behind: %s", behind)
        await asyncio.sleep(0.5)


async def _behind(campaign: Campaign) -> dict[str, int]:
    """Who has not got everything yet, and how much is missing; empty when nobody."""
    wanted = campaign.accepted
    found = {client.name: wanted - client.seen for client in campaign.clients}
    try:
        found["groups"] = await campaign.site.broker.lag(GROUPS)
        async with campaign.site.database.connected() as connection:
            found["tables"] = wanted - await connection.fetchval("SELECT count(*) FROM inference_sessions")
    except Exception as error:  # noqa: BLE001 (whatever it is: asked again)
        logger.warning("cannot tell how far everything is: %r", error)
        found["unknown"] = 1
    return {name: count for name, count in found.items() if count > 0}


async def _unready_in_the_end(site: Site) -> dict[str, str]:
    """Who is not ready although nothing is wrong any more."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        found = await unready(site)
        if not found or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)
