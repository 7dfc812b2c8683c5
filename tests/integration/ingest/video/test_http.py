"""Pulls videos over HTTP: files in parts, cameras of JPEG and MPEG-TS, servers that redirect, break off or deceive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from infra.network.addresses import AddressRefusedError
from ingest.video.errors import VideoError, VideoUnavailableError
from ingest.video.options import VideoSource
from tests.harnesses.video_pulls import Collector, pull_all, pulling, video_settings
from tests.videos import steady, write_video

pytestmark = pytest.mark.integration

CREATED = {"creation_time": "2026-05-01T10:00:00Z"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds, with the index at the end, so that it needs seeking."""
    return write_video(tmp_path_factory.mktemp("http") / "a.mp4", steady(100, 10), metadata=CREATED, size=(640, 480))


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Serve ``handler`` at every path."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_file_is_read_in_parts_and_gives_the_times_of_the_file(recording: Path) -> None:
    async def file(_request: web.Request) -> web.StreamResponse:
        return web.FileResponse(recording)

    async with serving(file) as url:
        frames, pull = await pull_all(VideoSource("a", f"{url}/a.mp4"))
    assert [frame.presentation_time_s for frame in frames] == pytest.approx(steady(100, 10), abs=1e-6)
    assert frames[0].captured_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
    assert pull.state.is_live is False


async def test_a_connection_that_breaks_off_is_opened_where_it_ended(recording: Path) -> None:
    content = recording.read_bytes()
    starts: list[int] = []

    async def part(request: web.Request) -> web.StreamResponse:
        start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        starts.append(start)
        response = web.StreamResponse(status=206, headers={"Content-Length": str(len(content) - start), "ETag": '"1"'})
        await response.prepare(request)
        await response.write(content[start : start + 40_000])
        if start + 40_000 < len(content):
            assert request.transport is not None
            request.transport.close()
        return response

    async with serving(part) as url:
        frames, _ = await pull_all(VideoSource("a", url))
    assert len(frames) == 100
    assert len(starts) > 2


async def test_a_file_that_changes_while_it_is_read_is_an_error(recording: Path) -> None:
    content = recording.read_bytes()
    tags = iter(range(100))

    async def part(request: web.Request) -> web.StreamResponse:
        start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
        headers = {"Content-Length": str(len(content) - start), "ETag": f'"{next(tags)}"'}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        await response.write(content[start : start + 20_000])
        assert request.transport is not None
        request.transport.close()
        return response

    async with serving(part) as url:
        with pytest.raises(VideoError, match="was changed while it was read"):
            await pull_all(VideoSource("a", url))


@pytest.mark.parametrize(
    ("location", "error", "reason"),
    [
        ("http://169.254.169.254/latest", AddressRefusedError, "an address where clouds keep credentials"),
        ("file:///etc/passwd", VideoError, "redirects to an address that is not allowed"),
        ("rtsp://127.0.0.1/a", VideoError, "only http and https are followed"),
        ("/again", VideoError, "more than 5 redirects"),
    ],
)
async def test_redirects_are_checked_like_the_first_address(location: str, error: type[Exception], reason: str) -> None:
    async def redirect(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    async with serving(redirect) as url:
        with pytest.raises(error, match=reason):
            await pull_all(VideoSource("a", f"{url}/a.mp4"), settings=video_settings(networks=["127.0.0.1/32"]))


async def test_a_name_that_gives_another_address_the_second_time_is_refused(recording: Path) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=206, headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(recording.read_bytes()[:1_000])
        assert request.transport is not None
        request.transport.close()
        return response

    found = iter([["127.0.0.1"], ["169.254.169.254"]])

    def lookup(_host: str, _port: int) -> Sequence[str]:
        return next(found)

    async with serving(broken) as url:
        with pytest.raises(AddressRefusedError, match=r"camera\.test has the address 169\.254\.169\.254"):
            await pull_all(VideoSource("a", url.replace("127.0.0.1", "camera.test")), lookup=lookup)


async def test_a_playlist_opens_none_of_its_addresses() -> None:
    asked: list[str] = []

    async def playlist(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nb.ts\n#EXT-X-ENDLIST\n"
        return web.Response(text=text, content_type="application/vnd.apple.mpegurl")

    async with serving(playlist) as url:
        with pytest.raises(VideoError, match=r"is a playlist \(HLS or DASH\).*RTSP address"):
            await pull_all(VideoSource("a", f"{url}/a.m3u8"))
    assert set(asked) == {"/a.m3u8"}


@pytest.mark.parametrize(("status", "error"), [(404, VideoError), (401, VideoError), (503, VideoUnavailableError)])
async def test_statuses_are_errors_that_are_transient_or_final(status: int, error: type[Exception]) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(refuse) as url:
        with pytest.raises(error, match=f"answered {status}"):
            await pull_all(VideoSource("a", url))


async def test_headers_that_never_end_are_left_after_the_time_limit() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for number in range(100):
                writer.write(b"X-%d: a\r\n" % number)
                await writer.drain()
                await asyncio.sleep(0.1)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = video_settings(read_timeout_s=0.3, max_reconnect_s=0.05)
    async with server:
        began = asyncio.get_running_loop().time()
        with pytest.raises(VideoUnavailableError, match="no answer"):
            await pull_all(VideoSource("a", f"http://127.0.0.1:{port}/a"), settings=settings)
        assert asyncio.get_running_loop().time() - began < 5


def jpegs(tmp_path: Path, count: int) -> list[bytes]:
    path = write_video(tmp_path / "a.mjpeg", steady(count), codec="mjpeg", options={})
    return [b"\xff\xd8" + part for part in path.read_bytes().split(b"\xff\xd8")[1:]]


async def test_a_camera_of_jpeg_pictures_is_read_until_it_ends_and_again(tmp_path: Path) -> None:
    pictures = jpegs(tmp_path, 10)
    connections = 0

    async def camera(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        connections += 1
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        for _ in range(3):
            for picture in pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                await response.write(head.encode() + picture + b"\r\n")
                await asyncio.sleep(0.02)
        return response

    async with serving(camera) as url, pulling(VideoSource("a", f"{url}/video")) as running:
        await running.collector.wait_for(50)
        assert connections >= 2
        assert running.pull.counts.reconnects >= 1
        assert running.pull.state.is_live
        frames = list(running.collector.frames)
    running.collector.require_order()
    assert {frame.clock for frame in frames} == {"arrival"}
    assert abs((datetime.now(UTC) - frames[-1].captured_at).total_seconds()) < 5


async def test_a_camera_that_sends_broken_pictures_goes_on(tmp_path: Path) -> None:
    pictures = jpegs(tmp_path, 12)
    pictures[3] = pictures[3][:40]
    pictures[5] = bytes(700)

    async def camera(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=frame"})
        await response.prepare(request)
        while True:
            for picture in pictures:
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                await response.write(head.encode() + picture + b"\r\n")
                await asyncio.sleep(0.02)

    async with serving(camera) as url, pulling(VideoSource("a", url)) as running:
        await running.collector.wait_for(40)
    counts = running.pull.counts
    assert counts.broken_packets + counts.damaged >= 4
    running.collector.require_order()


async def test_a_live_transport_stream_is_read_as_it_comes(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.ts", steady(200)).read_bytes()

    async def camera(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        step = max(188, len(content) // 80 // 188 * 188)
        for at in range(0, len(content), step):
            await response.write(content[at : at + step])
            await asyncio.sleep(0.05)
        return response

    async with serving(camera) as url, pulling(VideoSource("a", url)) as running:
        await running.collector.wait_for(30)
        assert running.pull.state.is_live
    running.collector.require_order()


async def test_a_server_that_is_silent_after_its_headers_is_left() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        await asyncio.sleep(30)
        return response

    settings = video_settings(read_timeout_s=0.3, open_timeout_s=0.5, max_reconnect_s=0.05)
    async with serving(silent) as url:
        with pytest.raises(VideoUnavailableError, match="time limit"):
            await pull_all(VideoSource("a", url), settings=settings)


async def test_a_stop_ends_a_read_that_waits() -> None:
    asked = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        await response.prepare(request)
        asked.set()
        await asyncio.sleep(30)
        return response

    settings = video_settings(read_timeout_s=60, open_timeout_s=60)
    async with serving(silent) as url, pulling(VideoSource("a", url), Collector(), settings=settings) as running:
        await asked.wait()
        await asyncio.sleep(0.1)
        running.stop.set()
        await asyncio.wait_for(running.task, 3.0)
