"""Uploads to a real gateway, and to servers that are none."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from infra.deploy.kafka.certificates import BROKER_HOST, Certificates
from infra.deploy.ports import free_port
from infra.errors import SettingsError
from infra.process.http_settings import HttpSettings
from ingest.edge.port import NewFrame
from ingest.edge.sending.bandwidth import Bandwidth
from ingest.edge.sending.fields import FrameFields
from ingest.edge.sending.gateway import KEEP_ALIVE_S, GatewayConnection
from ingest.edge.sending.responses import Accepted, NotSent, Outcome, Rejected
from ingest.edge.sending.turns import Turns
from ingest.edge.sending.upload import Uploader
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.frame_file import SpooledFrame, header_of
from ingest.settings import GatewaySettings
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from tests.harnesses.edge_process import small_jpeg
from tests.servers.gateway import OTHER_TOKEN, TOKEN, Gateway, running
from tests.servers.http import serving

WHEN = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SIDE = {"altitude_m": 80.5, "latitude": -33.25, "longitude": 1e-06}


def frame(image: bytes | None = None, **fields: object) -> SpooledFrame:
    new = NewFrame(small_jpeg(1) if image is None else image, WHEN, "Bild + 1 & 2.jpg", **fields)  # type: ignore[arg-type]
    return SpooledFrame(header_of(new), new.image)


@asynccontextmanager
async def uploading(url: str, token_file: Path | None = None, **settings: object) -> AsyncIterator[Uploader]:
    given = EdgeSettings.model_validate({"url": url, "token": SecretStr(TOKEN), **settings})
    async with GatewayConnection(given, token_file) as connection:
        yield Uploader(connection, given, FrameFields(given), Bandwidth(given.max_bytes_per_s), Turns(0.2))


async def send(url: str, found: SpooledFrame, lane: Lane = Lane.LIVE, **settings: object) -> Outcome:
    async with uploading(url, **settings) as uploader:
        return await uploader.send(found, lane)


async def events(gateway: Gateway) -> list[FrameCaptured]:
    return [decode(record.headers, record.value, FrameCaptured) for record in await gateway.records()]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway") as started:
        yield started


@pytest.mark.parametrize("size", [10, 12_000], ids=["query", "form"])
async def test_frame_arrives_with_all_its_fields(gateway: Gateway, size: int) -> None:
    metadata = {"note": "ü & +" + "x" * size, "n": [1, 2.5, None]}
    found = frame(camera=SIDE, metadata=metadata)
    assert await send(gateway.url, found) == Accepted()
    [event] = await events(gateway)
    assert (event.device_id, event.captured_at, event.original_filename) == ("drone-1", WHEN, "Bild + 1 & 2.jpg")
    assert event.image.sha256 == found.header.sha256
    assert event.metadata == metadata
    assert event.camera is not None
    assert event.camera.model_dump(exclude_none=True) == SIDE


async def test_frame_sent_twice_has_one_id(gateway: Gateway) -> None:
    for _ in range(2):
        assert await send(gateway.url, frame()) == Accepted()
    assert len({event.frame_id for event in await events(gateway)}) == 1


async def test_refusals_of_the_gateway_have_its_code_and_reason(gateway: Gateway) -> None:
    refused = await send(gateway.url, frame(b"no picture at all"))
    assert isinstance(refused, Rejected)
    assert refused.code == "INVALID_FORMAT"
    assert "settings of the gateway" in refused.reason


async def test_large_image_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with running(tmp_path / "gateway", GatewaySettings(max_image_bytes=1_000)) as gateway:
        refused = await send(gateway.url, frame(small_jpeg(1) + bytes(3_000_000)))
        assert isinstance(refused, Rejected)
        assert refused.code == "FILE_TOO_LARGE"


async def test_token_file_is_read_anew_until_the_token_works(gateway: Gateway, tmp_path: Path) -> None:
    """C-S1-114: 401 holds the frame, and a new token in the file is enough."""
    token_file = tmp_path / "token"
    token_file.write_text("wrong\n")
    async with uploading(gateway.url, token_file, token=None) as uploader:
        held = await uploader.send(frame(), Lane.LIVE)
        assert isinstance(held, NotSent)
        assert (held.code, held.needs_person) == ("UNAUTHORIZED", True)
        token_file.unlink()
        assert isinstance(await uploader.send(frame(), Lane.LIVE), NotSent)
        token_file.write_text("two\nlines")
        assert await uploader.send(frame(), Lane.LIVE) == NotSent(
            "the token has characters that no token has; see edge.token", "TOKEN", needs_person=True
        )
        token_file.write_text(f"{OTHER_TOKEN}\n")
        assert await uploader.send(frame(), Lane.LIVE) == Accepted()
    assert [event.device_id for event in await events(gateway)] == ["drone-2"]


async def test_outage_of_the_gateway_is_tried_again_after_its_pause(gateway: Gateway) -> None:
    gateway.publisher.fault = OSError("no broker")
    found = await send(gateway.url, frame())
    assert isinstance(found, NotSent)
    assert (found.needs_person, found.may_be_frame) == (False, False)
    assert 1 <= found.retry_after_s <= 5


async def test_refused_connection_is_unreachable() -> None:
    found = await send(f"http://127.0.0.1:{free_port()}", frame())
    assert isinstance(found, NotSent)
    assert found.code == "UNREACHABLE"
    assert found.reason.startswith("http://127.0.0.1")


@pytest.mark.parametrize("size", [3_000, 30_000_000], ids=["small", "larger than the buffers"])
async def test_server_that_reads_nothing_is_given_up(size: int) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with serving(hang) as url:
        began = asyncio.get_running_loop().time()
        found = await send(url, frame(bytes(size)), stall_timeout_s=0.3)
        assert isinstance(found, NotSent)
        assert (found.code, "edge.stall_timeout_s is 0.3" in found.reason) == ("NO_RESPONSE", True)
        assert asyncio.get_running_loop().time() - began < 5


async def test_slow_upload_that_makes_progress_is_not_given_up() -> None:
    body = bytes(60_000)

    async def read(request: web.Request) -> web.StreamResponse:
        sha256 = frame(await request.read()).header.sha256
        return web.json_response({"image": {"sha256": sha256}}, status=202)

    async with serving(read) as url:
        began = asyncio.get_running_loop().time()
        assert await send(url, frame(body), stall_timeout_s=0.5, max_bytes_per_s=50_000) == Accepted()
        assert asyncio.get_running_loop().time() - began > 1.0


async def test_portal_that_responds_to_everything_does_not_get_the_frames() -> None:
    async def portal(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(text="<html>log in" + "x" * 200_000, content_type="text/html")

    async with serving(portal) as url:
        found = await send(url, frame())
        assert isinstance(found, NotSent)
        assert found.needs_person


async def test_redirect_does_not_take_the_token_elsewhere() -> None:
    tokens = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        tokens.append(request.headers["X-API-Token"])
        raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{request.url.port}/elsewhere")

    async with serving(redirect) as url:
        found = await send(url, frame())
        assert isinstance(found, NotSent)
        assert found.code == "REDIRECTED"
    assert tokens == [TOKEN]


async def test_response_that_is_not_http_is_tried_again() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    listening = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with listening:
        found = await send(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", frame())
    assert isinstance(found, NotSent)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_file_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"edge.ca_file \(STANDGALE_EDGE__CA_FILE\) is .*ca.pem"):
        GatewayConnection(EdgeSettings(url="https://gateway", token=SecretStr("t"), ca_file=path), None)


def test_idle_connection_is_closed_before_the_gateway_closes_it() -> None:
    assert HttpSettings().keep_alive_s > KEEP_ALIVE_S


async def test_gateway_behind_tls_is_trusted_by_the_authorities_file(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl not found")
    pair = Certificates(tmp_path / "certificates").broker()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    async def accept(request: web.Request) -> web.StreamResponse:
        return web.json_response({"image": {"sha256": frame(await request.read()).header.sha256}}, status=202)

    async with serving(accept, context) as url:
        address = url.replace("127.0.0.1", BROKER_HOST)
        assert await send(address, frame(), ca_file=pair.authority) == Accepted()
        for wrong in (await send(address, frame()), await send(url, frame(), ca_file=pair.authority)):
            assert isinstance(wrong, NotSent)
            assert (wrong.code, wrong.needs_person) == ("TLS", True)
            assert "edge.ca_file" in wrong.reason
