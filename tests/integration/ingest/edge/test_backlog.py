"""The backlog on its way to a real gateway: by the stream, by digest, and to gateways that have neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from ingest.edge.port import NewFrame
from ingest.edge.run import make_sender
from ingest.edge.sending.gateway import GatewayConnection
from ingest.edge.sending.sender import Sender
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.spool import Spool
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE
from standgale.testing.waiting import until
from tests.harnesses.counting_proxy import counting_proxy
from tests.harnesses.edge_process import small_jpeg
from tests.harnesses.fault_proxy import fault_proxy
from tests.servers.gateway import TOKEN, Gateway, jpeg, running
from tests.servers.http import serving

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def frame(number: int, image: bytes | None = None, *, is_late: bool = True) -> NewFrame:
    picture = small_jpeg(number) if image is None else image
    return NewFrame(picture, START + timedelta(seconds=number), f"{number}.jpg", is_late=is_late)


@dataclass
class Device:
    spool: Spool
    sender: Sender

    async def until_sent(self) -> None:
        await until(lambda: not self.spool.frames, timeout_s=60)


@asynccontextmanager
async def device(
    folder: Path,
    url: str,
    *frames: NewFrame,
    change: Callable[[Sender], None] = lambda sender: None,
    **settings: object,
) -> AsyncIterator[Device]:
    """Run a client whose spool has ``frames``."""
    quick = {"url": url, "token": SecretStr(TOKEN), "first_delay_s": 0.01, "max_delay_s": 0.1, "min_free_bytes": 0}
    given = EdgeSettings.model_validate({**quick, **settings})
    spool, stop = Spool(folder, given, Counts()), asyncio.Event()
    for each in frames:
        await spool.add(each)
    async with GatewayConnection(given, None) as connection:
        sender = make_sender(spool, connection, given)
        if change is not None:
            change(sender)
        task = asyncio.create_task(sender.run(stop))
        try:
            yield Device(spool, sender)
        finally:
            stop.set()
            await asyncio.wait_for(task, 12)
            spool.close()


async def names(gateway: Gateway, topic: str = FRAMES_BACKFILL) -> list[str | None]:
    found = [decode(one.headers, one.value, FrameCaptured) for one in await gateway.records(topic)]
    return [event.original_filename for event in found]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway") as started:
        yield started


def named(*numbers: int) -> list[str | None]:
    return [f"{number}.jpg" for number in numbers]


@pytest.mark.parametrize("use_stream", [True, False])
async def test_backlog_arrives_in_order_behind_live_frames(gateway: Gateway, tmp_path: Path, use_stream: bool) -> None:
    frames = [frame(number) for number in range(40)]
    async with device(tmp_path / "spool", gateway.url, *frames, use_stream=use_stream) as edge:
        await edge.spool.add(frame(40, is_late=False))
        await edge.until_sent()
    assert await names(gateway) == named(*range(40))
    assert await names(gateway, FRAMES_LIVE) == named(40)


async def test_all_frames_are_live_in_one_order_when_live_s_is_0(gateway: Gateway, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(5)]
    async with device(tmp_path / "spool", gateway.url, *frames, live_s=0, flight="north") as edge:
        await edge.until_sent()
    assert await names(gateway, FRAMES_LIVE) == named(0, 1, 2, 3, 4)
    [event, *_] = [decode(one.headers, one.value, FrameCaptured) for one in await gateway.records(FRAMES_LIVE)]
    assert event.flight_id == "north"


async def test_failed_frames_of_the_backlog_are_set_aside_alone(gateway: Gateway, tmp_path: Path) -> None:
    """C-S1-115: the others are sent once, and only the failed ones are brought back."""
    frames = [frame(number, b"no picture %d" % number if number % 3 == 1 else None) for number in range(9)]
    async with device(tmp_path / "spool", gateway.url, *frames) as edge:
        await edge.until_sent()
        assert edge.spool.counts.refused == 3
    assert await names(gateway) == named(0, 2, 3, 5, 6, 8)
    assert len(list((tmp_path / "spool" / "refused").glob("*.reason.json"))) == 3


async def test_store_that_fails_for_a_while_changes_no_order(gateway: Gateway, tmp_path: Path) -> None:
    """C-S2-086 and C-S1-114: 503 is tried again after a pause."""
    gateway.publisher.fault = OSError("no broker")
    frames = [frame(number) for number in range(20)]
    async with device(tmp_path / "spool", gateway.url, *frames) as edge:
        await until(lambda: edge.sender.link.problem is not None, timeout_s=10)
        gateway.publisher.fault = None
        await edge.until_sent()
    assert await names(gateway) == named(*range(20))


async def test_backlog_arrives_once_in_order_over_connections_that_break(gateway: Gateway, tmp_path: Path) -> None:
    """C-S1-114: messages and answers are lost with their connections, and the stream goes on where it was."""
    frames = [frame(number) for number in range(90)]
    async with (
        fault_proxy(gateway.url, fails=0.5, seed=7) as proxy,
        device(tmp_path / "spool", proxy.url, *frames, stall_timeout_s=5) as edge,
    ):
        await edge.until_sent()
    assert proxy.counts["message cut"] > 2
    assert await names(gateway) == named(*range(90))


async def test_images_that_the_gateway_has_are_not_sent_again(gateway: Gateway, tmp_path: Path) -> None:
    """A flight that is sent again after the loss of its spool costs less than 1 % of its bytes."""
    images = [jpeg(1200, 900, seed=number) for number in range(20)]
    frames = [frame(number, image) for number, image in enumerate(images)]
    async with counting_proxy(gateway.port) as passed:
        for name in ("first", "second"):
            before = passed.total
            async with device(tmp_path / name, f"http://127.0.0.1:{passed.port}", *frames) as edge:
                await edge.until_sent()
            share = (passed.total - before) / sum(map(len, images))
            assert share > 1 if name == "first" else share < 0.01, share
    found = await names(gateway)
    assert found[:20] == named(*range(20))
    assert set(found[20:]) <= set(found[:20])


async def test_image_that_retention_removed_meanwhile_is_sent(gateway: Gateway, tmp_path: Path) -> None:
    frames = [frame(number) for number in range(3)]

    def believe_in_all(sender: Sender) -> None:
        assert sender.known is not None
        sender.known._asked = {entry.key: True for entry in sender._spool._backlog}

    async with device(tmp_path / "spool", gateway.url, *frames, change=believe_in_all) as edge:
        await edge.until_sent()
    assert sorted(map(str, await names(gateway))) == named(0, 1, 2)


async def test_frame_that_is_too_large_for_the_stream_is_refused_alone(tmp_path: Path) -> None:
    async with running(tmp_path / "gateway", GatewaySettings(max_image_bytes=60_000)) as gateway:
        frames = [frame(0), frame(1, small_jpeg(1) + bytes(300_000)), frame(2)]
        async with device(tmp_path / "spool", gateway.url, *frames) as edge:
            await edge.until_sent()
            assert edge.spool.counts.refused == 1
        assert await names(gateway) == named(0, 2)


async def test_older_gateway_without_stream_digests_and_priority_gets_all_frames(tmp_path: Path) -> None:
    got: list[str] = []

    async def old(request: web.Request) -> web.StreamResponse:
        if request.path != "/api/v1/frames" or request.method != "POST":
            return web.json_response({"error_code": "NOT_FOUND", "message": "no"}, status=404)
        for name in ("priority", "flight", "sha256"):
            if name in request.query:
                body = {"error_code": "VALIDATION_FAILED", "message": f"unknown field '{name}'", "field": name}
                return web.json_response(body, status=400)
        digest = sha256(await request.read()).hexdigest()
        got.append(request.query["original_filename"])
        return web.json_response({"image": {"sha256": digest}}, status=202)

    async with serving(old) as url:
        frames = [frame(number) for number in range(4)]
        async with device(tmp_path / "spool", url, *frames, flight="north") as edge:
            await edge.until_sent()
            assert edge.spool.counts.refused == 0
    assert got == named(0, 1, 2, 3)


async def test_frames_whose_responses_are_lost_are_announced_once(gateway: Gateway, tmp_path: Path) -> None:
    """By requests alone, half of which fail before or after the gateway has taken the frame."""
    frames = [frame(number, is_late=number % 2 == 0) for number in range(40)]
    async with (
        fault_proxy(gateway.url, fails=0.5, seed=3) as proxy,
        device(tmp_path / "spool", proxy.url, *frames, use_stream=False, ask_known=False) as edge,
    ):
        await edge.until_sent()
    assert proxy.counts["lost"] + proxy.counts["cut"] > 5
    assert await names(gateway, FRAMES_LIVE) == named(*range(1, 40, 2))
    assert await names(gateway) == named(*range(0, 40, 2))


async def test_live_frame_whose_response_was_lost_is_not_backlog_as_well(gateway: Gateway, tmp_path: Path) -> None:
    """It becomes backlog while the stream of the backlog is open."""
    lost = asyncio.Event()

    async def respond(request: web.Request) -> web.StreamResponse:
        if request.path == "/api/v1/stream":
            return web.Response(status=503)
        await gateway.send(await request.read(), params=dict(request.query))
        lost.set()
        return web.Response(status=502)

    async with serving(respond) as url, device(tmp_path / "spool", url, frame(1, is_late=False), live_s=0.3) as edge:
        await asyncio.wait_for(lost.wait(), 20)
        await until(lambda: edge.spool.next_of(Lane.BACKLOG) is not None, timeout_s=20)
        edge.sender.stream._connection.url = gateway.url  # type: ignore[union-attr]
        await edge.until_sent()
    assert (await names(gateway, FRAMES_LIVE), await names(gateway)) == (named(1), [])
