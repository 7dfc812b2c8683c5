"""The stream over real HTTP, on the embedded broker: filters, resume after a killed process, many clients, refusals."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import OutRecord
from schemas.events import DetectionsMade
from schemas.topics import DETECTIONS, load_topics
from sinks.settings import SseSettings
from sinks.sse import STREAM_PATH
from standgale.testing.factories import out_record
from tests.harnesses.sse_server import Page, listening, serving, started
from tests.servers.stream import numbered, start_stream

pytestmark = pytest.mark.integration


def padded(number: int) -> DetectionsMade:
    """A frame of one device with much metadata."""
    return numbered(number, device="a").model_copy(update={"metadata": {"number": number, "padding": "x" * 5_000}})


async def test_live_filtered_and_empty_frames(tmp_path: Path) -> None:
    everything, boats, sure, one = Page(), Page(), Page(), Page()
    async with (
        serving(tmp_path) as stream,
        listening(stream, everything, 4),
        listening(stream, boats, 1, ("label", "boat"), ("label", "bird")),
        listening(stream, sure, 1, ("confidence", "0.3")),
        listening(stream, one, 2, ("device", "a"), ("device", "b")),
    ):
        await stream.publish(
            numbered(0, ["car"], device="a"),
            numbered(1, device="b"),
            numbered(2, ["car", "boat"], device="c"),
            numbered(3, ["car", "car", "car"], device="c"),
        )
    assert sorted(everything.numbers) == [0, 1, 2, 3]
    assert [[found.label for found in event.detections] for _, event in boats.events] == [["boat"]]
    assert [[found.confidence for found in event.detections] for _, event in sure.events] == [[0.3]]
    assert sorted(one.numbers) == [0, 1]


async def test_heartbeats_and_a_clean_end(tmp_path: Path) -> None:
    page = Page()
    async with serving(tmp_path) as stream:
        task = asyncio.create_task(page.listen(stream.http, stream.url, enough=1))
        for _ in range(100):
            if "heartbeat" in page.comments:
                break
            await asyncio.sleep(0.05)
        stream.hub.closing = True
        await asyncio.wait_for(task, 5)
    assert "heartbeat" in page.comments
    assert page.comments[-1] == "closing, connect again"


async def test_two_hundred_clients_get_everything(tmp_path: Path) -> None:
    pages = [Page() for _ in range(200)]
    async with serving(tmp_path) as stream:
        tasks = [asyncio.create_task(page.listen(stream.http, stream.url, enough=100)) for page in pages]
        await asyncio.wait_for(asyncio.gather(*[page.live.wait() for page in pages]), 20)
        for start in range(0, 100, 20):
            await stream.publish(*[numbered(number, ["car"]) for number in range(start, start + 20)])
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    for page in pages:
        assert sorted(page.numbers) == list(range(100))
        assert [number for number in page.numbers if number % 5 == 3] == list(range(3, 100, 5))


async def test_poison_is_skipped(tmp_path: Path) -> None:
    page = Page()
    async with serving(tmp_path) as stream, listening(stream, page, 2):
        good = out_record(numbered(0, device="a"))
        await stream.publisher.publish([good, OutRecord(DETECTIONS, "a", b"\x00\xff", good.headers)])
        await stream.publisher.publish([OutRecord(DETECTIONS, "a", None), out_record(numbered(1, device="a"))])
    assert page.numbers == [0, 1]


async def test_a_client_that_does_not_read_overflows_and_resumes(tmp_path: Path) -> None:
    page = Page()
    total = 1_500
    async with serving(tmp_path, client_queue_events=200, heartbeat_s=10.0) as stream:
        # A small window and big events fill the sockets' buffers; the client reads nothing until all are published.
        raw_socket = socket.socket()
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        raw_socket.setblocking(False)
        port = int(stream.url.removeprefix("http://127.0.0.1:").partition("/")[0])
        await asyncio.get_running_loop().sock_connect(raw_socket, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=raw_socket, limit=1_024)
        writer.write(f"GET {STREAM_PATH} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        head = await reader.readuntil(b"live\n")
        assert b" 200 " in head
        for start in range(0, total, 500):
            await stream.publish(*[padded(number) for number in range(start, start + 500)])
        while sum(stream.hub.ring.end) < total:  # noqa: ASYNC110 (what the hub has read is no event)
            await asyncio.sleep(0.02)
        raw = b""
        while b"event: overflow" not in raw[-2_000:]:
            chunk = await asyncio.wait_for(reader.read(2**20), 20)
            assert chunk, "the stream ended without saying why"
            raw += chunk
        writer.close()
        seen = [int(part.split(b",")[0]) for part in raw.split(b'"metadata":{"number":')[1:]]
        assert seen == list(range(len(seen)))
        assert len(seen) < total
        overflow = raw[raw.rindex(b"id: ") :].split(b"\n")
        page.last_id = overflow[0].removeprefix(b"id: ").decode()
        await asyncio.wait_for(page.listen(stream.http, stream.url, enough=total - len(seen)), 30)
    assert page.numbers == list(range(len(seen), total))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("confidence=2", "INVALID_FILTER"),
        ("color=red", "INVALID_FILTER"),
        ("area=POLYGON((0 0, 2 2, 2 0, 0 2))", "INVALID_FILTER"),
    ],
)
async def test_bad_stream_requests_name_the_reason(tmp_path: Path, query: str, code: str) -> None:
    async with serving(tmp_path) as stream:
        await started(stream.hub)
        async with stream.http.get(f"{stream.url}?{query}") as response:
            body = orjson.loads(await response.read())
        assert response.status == 400
        assert body["error_code"] == code
        assert body["request_id"] == response.headers["x-request-id"]
        assert set(body) == {
            *("status", "message", "error", "error_code", "details", "timestamp", "request_id", "documentation_url")
        }


async def test_tokens(tmp_path: Path) -> None:
    async with serving(tmp_path, tokens=("first", "second")) as stream:
        for headers in ({}, {"X-API-Token": "third"}, {"Authorization": "Basic first"}, {"X-API-Token": "naïve"}):
            async with stream.http.get(stream.url, headers=headers) as response:
                assert response.status == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert "first" not in await response.text()
        for headers in ({"X-API-Token": "first"}, {"Authorization": "bearer second"}):
            async with stream.http.get(stream.url, headers=headers) as response:
                assert response.status == 200


async def test_stream_beyond_max_clients_is_503(tmp_path: Path) -> None:
    async with serving(tmp_path, max_clients=1) as stream:
        async with stream.http.get(stream.url) as first:
            assert first.status == 200
            async with stream.http.get(stream.url) as second:
                assert second.status == 503
                assert int(second.headers["retry-after"]) > 0
        for _ in range(100):
            async with stream.http.get(stream.url) as third:
                if third.status == 200:
                    break
            await asyncio.sleep(0.02)
        assert third.status == 200


async def test_cors(tmp_path: Path) -> None:
    async with serving(tmp_path, cors_origins=("https://page.example",)) as stream:
        for origin, allowed in (("https://page.example", "https://page.example"), ("https://other.example", None)):
            async with stream.http.get(stream.url, headers={"Origin": origin}) as response:
                assert response.headers.get("access-control-allow-origin") == allowed


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for server in started:
        server.kill()
        server.wait(10)


def start_server(servers: list[subprocess.Popen[str]], broker: Path, port: int, replay: int) -> int:
    server, port = start_stream(broker, SseSettings(port=port, heartbeat_s=0.5, replay_events=replay))
    servers.append(server)
    return port


@pytest.mark.parametrize("replay", [20, 10_000], ids=["history from the broker", "history in the ring"])
async def test_nothing_missed_or_repeated_when_the_process_is_killed(
    tmp_path: Path, servers: list[subprocess.Popen[str]], replay: int
) -> None:
    path = tmp_path / "broker.db"
    total, kills = 400, 3
    broker = EmbeddedBroker(path, load_topics())
    publisher = await broker.publisher()
    port = start_server(servers, path, 0, replay)
    url = f"http://127.0.0.1:{port}{STREAM_PATH}"
    page = Page()

    async def publish() -> None:
        await page.live.wait()
        for start in range(0, total, 10):
            await publisher.publish([out_record(numbered(number, ["car"])) for number in range(start, start + 10)])
            await asyncio.sleep(0.03)

    async def kill() -> None:
        for round_ in range(1, kills + 1):
            for _ in range(1_000):
                if len(page.events) >= round_ * 100:
                    break
                await asyncio.sleep(0.01)
            servers[-1].send_signal(signal.SIGKILL)
            servers[-1].wait(10)
            await asyncio.to_thread(start_server, servers, path, port, replay)

    async def follow() -> None:
        async with aiohttp.ClientSession() as http:
            while len(page.events) < total:
                try:
                    await page.listen(http, url, enough=total)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    try:
        await asyncio.wait_for(asyncio.gather(publish(), kill(), follow()), 60)
    finally:
        await publisher.close()
        await broker.close()
    assert len(page.numbers) == total
    assert sorted(page.numbers) == list(range(total))
    for device in range(5):
        assert [number for number in page.numbers if number % 5 == device] == list(range(device, total, 5))
    assert page.others == []
    servers[-1].terminate()
    assert servers[-1].wait(10) == 0


async def test_a_slash_at_the_end_is_no_redirect_without_tls(tmp_path: Path) -> None:
    async with serving(tmp_path) as stream, stream.http.get(stream.url + "/", allow_redirects=False) as response:
        assert response.status == 404
