"""The loop that sends: retries, refusals, frames at which the gateway fails, and a stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.edge.sending.failing import ALONE_ATTEMPTS
from ingest.edge.sending.responses import Accepted, NotSent, Outcome, Rejected
from ingest.edge.sending.sender import Sender
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.frame_file import SpooledFrame
from ingest.edge.spool.spool import WAITING_FOLDER, Spool
from tests.unit.ingest.edge.spool.test_spool import frame

BROKEN = NotSent("the gateway responds 500", "HTTP_500", may_be_frame=True)
AWAY = NotSent("cannot be reached", "UNREACHABLE")


@dataclass
class Gateway:
    """Responds as a test says, by the name of the frame."""

    respond: Callable[[str], Outcome] = lambda name: Accepted()
    attempts: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    async def send(
        self, found: SpooledFrame, lane: Lane, *, is_known: bool = False, maybe_sent: bool = False
    ) -> Outcome:
        name = found.header.name or ""
        self.attempts.append(name)
        outcome = self.respond(name)
        if isinstance(outcome, Accepted):
            self.accepted.append(name)
        return outcome


@dataclass
class Site:
    spool: Spool
    gateway: Gateway
    sender: Sender
    stop: asyncio.Event

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():  # noqa: ASYNC110 (it reads files, too)
                await asyncio.sleep(0.005)


@asynccontextmanager
async def sending(folder: Path, frames: int, gateway: Gateway, **settings: object) -> AsyncIterator[Site]:
    quick = {"first_delay_s": 0.001, "max_delay_s": 0.002, "min_free_bytes": 0, "live_s": 0}
    given = EdgeSettings.model_validate({**quick, **settings})
    spool = Spool(folder, given, Counts())
    for number in range(frames):
        await spool.add(frame(number))
    site = Site(spool, gateway, Sender(spool, gateway.send, given), asyncio.Event())
    running = asyncio.create_task(site.sender.run(site.stop))
    try:
        yield site
    finally:
        site.stop.set()
        await asyncio.wait_for(running, 10)
        spool.close()


async def test_run_sends_all_frames_in_order_and_waits_for_more(tmp_path: Path) -> None:
    async with sending(tmp_path, 3, Gateway()) as site:
        await site.until(lambda: not site.spool.frames)
        await site.spool.add(frame(3))
        await site.until(lambda: not site.spool.frames)
    assert site.gateway.accepted == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert site.spool.counts.sent == 4
    assert site.sender.link.last_sent_at is not None


async def test_outage_keeps_all_frames_and_their_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """C-S1-114: frames are kept while the gateway is unavailable; one log line each for its begin and end."""
    caplog.set_level(logging.INFO)
    gateway = Gateway(lambda name: AWAY)
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: len(gateway.attempts) > 10)
        assert site.sender.link.problem == "cannot be reached"
        gateway.respond = lambda name: Accepted()
        await site.until(lambda: not site.spool.frames)
    assert gateway.accepted == ["0.jpg", "1.jpg", "2.jpg"]
    assert set(gateway.attempts[:10]) == {"0.jpg"}
    assert caplog.text.count("cannot be reached; it is tried again, and frames are kept (3 frames in the spool)") == 1
    assert caplog.text.count("the gateway takes frames again") == 1
    assert site.sender.link.problem is None


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    gateway = Gateway(lambda name: NotSent("busy", "OVERLOADED", retry_after_s=0.3))
    async with sending(tmp_path, 1, gateway) as site:
        await site.until(lambda: bool(gateway.attempts))
        gateway.respond = lambda name: Accepted()
        await asyncio.sleep(0.2)
        assert gateway.accepted == []
        await site.until(lambda: gateway.accepted == ["0.jpg"])


async def test_refused_frame_is_set_aside_and_the_others_are_sent(tmp_path: Path) -> None:
    """C-S1-115: of several pictures only the one that failed is affected."""
    gateway = Gateway(lambda name: Rejected("CORRUPTED_FILE", "cut off") if name == "1.jpg" else Accepted())
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: not site.spool.frames)
    assert gateway.attempts == ["0.jpg", "1.jpg", "2.jpg"]
    assert site.spool.counts.refused == 1


async def test_frame_at_which_the_gateway_always_fails_is_set_aside(tmp_path: Path) -> None:
    gateway = Gateway(lambda name: BROKEN if name == "0.jpg" else Accepted())
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: not site.spool.frames)
    assert gateway.accepted == ["1.jpg", "2.jpg"]
    assert gateway.attempts.count("0.jpg") >= ALONE_ATTEMPTS
    assert gateway.attempts.index("1.jpg") >= ALONE_ATTEMPTS
    assert site.spool.counts.refused == 1


async def test_no_frame_is_set_aside_while_the_gateway_fails_at_all(tmp_path: Path) -> None:
    gateway = Gateway(lambda name: BROKEN)
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: len(gateway.attempts) > ALONE_ATTEMPTS + 10)
        assert set(gateway.attempts) == {"0.jpg", "1.jpg"}
        gateway.respond = lambda name: Accepted()
        await site.until(lambda: not site.spool.frames)
    assert site.spool.counts.refused == 0
    assert sorted(gateway.accepted) == ["0.jpg", "1.jpg", "2.jpg"]


async def test_failures_of_an_outage_do_not_count_against_the_frame_at_its_time(tmp_path: Path) -> None:
    """While a gateway restarts, a proxy responds now with 502 and now with 500."""
    outcomes = iter([BROKEN, AWAY] * ALONE_ATTEMPTS)
    gateway = Gateway(lambda name: next(outcomes, Accepted()))
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: not site.spool.frames)
    assert site.spool.counts.refused == 0
    assert gateway.accepted == ["0.jpg", "1.jpg", "2.jpg"]


async def test_damaged_file_is_set_aside_and_the_others_are_sent(tmp_path: Path) -> None:
    def tear_first(name: str) -> Outcome:
        sorted((tmp_path / WAITING_FOLDER).iterdir())[0].write_bytes(b"torn")
        gateway.respond = lambda name: Accepted()
        return AWAY

    gateway = Gateway(tear_first)
    async with sending(tmp_path, 3, gateway) as site:
        await site.until(lambda: not site.spool.frames)
    assert gateway.accepted == ["1.jpg", "2.jpg"]
    assert site.spool.counts.damaged == 1


async def test_stop_waits_for_the_upload_in_progress(tmp_path: Path) -> None:
    gateway = Gateway()
    send = gateway.send
    begun = asyncio.Event()

    async def slow(found: SpooledFrame, lane: Lane, *, is_known: bool = False, maybe_sent: bool = False) -> Outcome:
        begun.set()
        await asyncio.sleep(0.2)
        return await send(found, lane)

    gateway.send = slow  # type: ignore[method-assign]
    async with sending(tmp_path, 3, gateway) as site:
        await asyncio.wait_for(begun.wait(), 5)
    assert gateway.accepted == ["0.jpg"]
    assert site.spool.frames == 2


async def test_stop_ends_a_long_pause_at_once(tmp_path: Path) -> None:
    gateway = Gateway(lambda name: NotSent("busy", retry_after_s=600.0))
    async with sending(tmp_path, 1, gateway) as site:
        await site.until(lambda: bool(gateway.attempts))
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 2
