"""Pulls cameras over RTSP, by TCP and UDP: times, kills and freezes of the server, lost frames, redirects."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.deploy.ports import free_port
from infra.errors import StoreUnavailableError
from infra.network.addresses import AddressRefusedError
from ingest.video.errors import VideoError
from ingest.video.options import Selection, Transport, VideoSource
from ingest.video.port import VideoFrame
from tests.harnesses.video_pulls import Collector, pulling, video_settings
from tests.servers.rtsp import LOSING_CAMERA, RtspServer, require_gstreamer
from tests.videos import h264_frames

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    require_gstreamer()
    with RtspServer() as server:
        yield server


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_frames_have_the_cameras_times_and_are_all_there(camera: RtspServer, transport: Transport) -> None:
    async with pulling(VideoSource("gate", camera.url, transport=transport)) as running:
        await running.collector.wait_for(40)
        frames = list(running.collector.frames)
        now = datetime.now(UTC)
    running.collector.require_order()
    # The camera reports its clock with the first frames or some seconds later.
    assert {frame.clock for frame in frames} <= {"rtcp", "arrival"}
    assert frames[0].presentation_time_s == 0
    assert timedelta(seconds=-1) < now - frames[-1].captured_at < timedelta(seconds=3)
    assert (frames[0].width, frames[0].height, frames[0].source) == (320, 240, "gate")
    assert running.pull.counts.damaged == 0


async def test_a_rate_is_kept_on_a_live_stream(camera: RtspServer) -> None:
    async with pulling(VideoSource("gate", camera.url, Selection("rate", per_second=5))) as running:
        await running.collector.wait_for(10)
        frames = list(running.collector.frames)
    assert 1.6 < frames[9].presentation_time_s < 2.2


async def test_a_killed_server_is_connected_to_again_and_times_go_on() -> None:
    require_gstreamer()
    with RtspServer() as server:
        async with pulling(VideoSource("gate", server.url)) as running:
            for count in (20, 40):
                await running.collector.wait_for(count)
                killed = datetime.now(UTC)
                server.kill()
                await asyncio.sleep(0.5)
                assert running.health.report().ready is False
                server.start()
                await running.collector.wait_until(lambda frame, since=killed: frame.captured_at > since)
            now = datetime.now(UTC)
            last = running.collector.frames[-1]
    running.collector.require_order()
    assert running.pull.counts.reconnects >= 2
    first = running.collector.frames[0]
    since = (last.captured_at - first.captured_at).total_seconds()
    assert last.presentation_time_s == pytest.approx(since, abs=0.001)
    assert abs((now - last.captured_at).total_seconds()) < 3


async def test_a_frozen_server_is_left_after_the_time_limit() -> None:
    require_gstreamer()
    with RtspServer() as server:
        settings = video_settings(read_timeout_s=1.0)
        async with pulling(VideoSource("gate", server.url), settings=settings) as running:
            await running.collector.wait_for(10)
            server.send(signal.SIGSTOP)
            async with asyncio.timeout(10):
                while running.health.report().ready:  # noqa: ASYNC110 (as a person would look)
                    await asyncio.sleep(0.02)
            server.send(signal.SIGCONT)
            await running.collector.wait_for(len(running.collector.frames) + 10)
        assert running.pull.counts.reconnects >= 1


async def test_lost_frames_are_counted_and_the_stream_goes_on() -> None:
    require_gstreamer()
    with RtspServer(LOSING_CAMERA) as server:
        async with pulling(VideoSource("gate", server.url)) as running:
            await running.collector.wait_for(60)
        counts = running.pull.counts
        assert counts.missing + counts.damaged + counts.broken_packets > 2
        running.collector.require_order()


async def test_a_camera_that_is_off_at_first_is_waited_for() -> None:
    require_gstreamer()
    port = free_port()
    async with pulling(VideoSource("gate", f"rtsp://127.0.0.1:{port}/cam")) as running:
        await asyncio.sleep(0.4)
        assert "no connection (Connection refused)" in str(running.health.reason)
        with RtspServer(port=port):
            await running.collector.wait_for(5)
            running.stop.set()
            await asyncio.wait_for(running.task, 15.0)


async def test_an_acceptor_that_fails_gets_each_frame_again(camera: RtspServer) -> None:
    failures = 0

    def fail_often(frame: VideoFrame) -> None:
        nonlocal failures
        failures += 1
        if failures % 3:
            raise StoreUnavailableError("away")

    async with pulling(VideoSource("gate", camera.url), Collector(fail_often)) as running:
        await running.collector.wait_for(10)
    numbers = [frame.number for frame in running.collector.frames]
    assert numbers == list(range(len(numbers)))


async def test_a_slow_acceptor_makes_old_frames_be_left_out_and_counted(camera: RtspServer) -> None:
    settings = video_settings(queue_frames=1, max_lag_s=1.0)
    async with pulling(VideoSource("gate", camera.url), Collector(pause_s=0.3), settings=settings) as running:
        await running.collector.wait_for(16)
        late_s = (datetime.now(UTC) - running.collector.frames[-1].captured_at).total_seconds()
        lag_s = running.pull.state.lag_s()
    assert running.pull.counts.overflowed > 20
    # What was left out is not counted a second time, as missing.
    assert running.pull.counts.missing <= 2
    assert lag_s < 2.0
    assert late_s < 4.0
    running.collector.require_order()


async def test_an_outage_of_the_store_shorter_than_the_lag_skips_nothing(camera: RtspServer) -> None:
    began = time.monotonic()

    def away_for_two_seconds(frame: VideoFrame) -> None:
        if frame.number >= 5 and time.monotonic() - began < 3.0:
            raise StoreUnavailableError("away")

    async with pulling(VideoSource("gate", camera.url), Collector(away_for_two_seconds)) as running:
        await running.collector.wait_for(70)
    assert running.pull.counts.overflowed == 0
    assert [frame.number for frame in running.collector.frames[:70]] == list(range(70))


async def test_an_address_that_is_not_allowed_is_refused(camera: RtspServer) -> None:
    settings = video_settings(networks=[])
    with pytest.raises(AddressRefusedError, match=r"it is this machine.*STANDGALE_VIDEO__NETWORKS"):
        async with pulling(VideoSource("gate", camera.url), settings=settings) as running:
            await running.task


async def test_a_redirect_is_not_followed() -> None:
    asked: list[bytes] = []
    elsewhere = socket.create_server(("127.0.0.1", 0))
    elsewhere.settimeout(0.2)

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            while data := client.recv(4096):
                asked.append(data)
                sequence = next(line for line in data.split(b"\r\n") if line.lower().startswith(b"cseq"))
                target = f"Location: rtsp://127.0.0.1:{elsewhere.getsockname()[1]}/x".encode()
                status = b"200 OK" if data.startswith(b"OPTIONS") else b"302 Found\r\n" + target
                client.sendall(b"RTSP/1.0 " + status + b"\r\n" + sequence + b"\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server, elsewhere:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        url = f"rtsp://127.0.0.1:{server.getsockname()[1]}/cam"
        with pytest.raises(VideoError, match="redirects to another address, which is not followed"):
            async with pulling(VideoSource("gate", url)) as running:
                await running.task
        assert asked
        with pytest.raises(TimeoutError):
            elsewhere.accept()


async def test_a_server_that_speaks_no_rtsp_gives_a_clear_reason() -> None:
    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(b"x" * 200_000)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        with pytest.raises(VideoError, match="speaks no RTSP"):
            async with pulling(VideoSource("gate", f"rtsp://127.0.0.1:{server.getsockname()[1]}/cam")) as running:
                await running.task


async def test_a_server_of_another_make_is_read_by_udp() -> None:
    rtsp = pytest.importorskip("rtsp")
    pictures = h264_frames(50)
    port = free_port()
    server = rtsp.Server(bind_addr=f"127.0.0.1:{port}")
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.04):
            server.send_frame(pictures[send.count % 50], 3_600)  # type: ignore[attr-defined]
            send.count += 1  # type: ignore[attr-defined]

    send.count = 0  # type: ignore[attr-defined]
    server.start()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        async with pulling(VideoSource("gate", f"rtsp://127.0.0.1:{port}/stream", transport="udp")) as running:
            await running.collector.wait_for(25)
    finally:
        ended.set()
        sender.join()
        server.stop()
    running.collector.require_order()
    since = running.collector.frames[24].presentation_time_s
    assert since == pytest.approx(0.96, abs=0.5)
