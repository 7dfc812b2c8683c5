"""Checks what the relay passes on, changes and refuses between FFmpeg and a camera."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest

from infra.network.addresses import AddressRules
from ingest.video.errors import VideoError, VideoUnavailableError
from ingest.video.inputs.rtsp_relay import RtspRelay
from ingest.video.options import NetworkAddress, parse_address

RULES = AddressRules((ip_network("127.0.0.0/8"),))


def address(url: str) -> NetworkAddress:
    found = parse_address(url)
    assert isinstance(found, NetworkAddress)
    return found


@contextmanager
def relayed(response: bytes) -> Iterator[tuple[RtspRelay, socket.socket, list[bytes]]]:
    """Give a relay to a camera that sends ``response`` after one request, a client of it, and what the camera got."""
    requests: list[bytes] = []

    def serve(server: socket.socket) -> None:
        camera, _ = server.accept()
        with camera:
            requests.append(camera.recv(4_096))
            camera.sendall(response)
            camera.recv(4_096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        relay = RtspRelay(address(f"rtsp://me:p%40ss@127.0.0.1:{server.getsockname()[1]}/cam?x=1"), RULES, timeout_s=5)
        port = urlsplit(relay.url).port
        client = socket.create_connection(("127.0.0.1", port or 0), timeout=5)
        try:
            client.sendall(b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n")
            yield relay, client, requests
        finally:
            client.close()
            relay.close()
            thread.join(5)


def received(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65_536):
        data += part
        if data.endswith(b"END"):
            break
    return data


def test_responses_bodies_and_packets_of_pictures_pass_unchanged() -> None:
    response = (
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\nbody$\x00\x00\x05\r\n\r\n!RTSP/1.0 200 OK\r\n\r\n"
    )
    packet = b"$\x01\x00\x03END"
    with relayed(response + packet) as (_, client, requests):
        assert received(client) == response + packet
    assert requests == [b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n"]


def test_the_url_for_ffmpeg_keeps_login_path_and_query() -> None:
    with relayed(b"") as (relay, _, _):
        parts = urlsplit(relay.url)
    assert (parts.username, parts.password) == ("me", "p%40ss")
    assert (parts.path, parts.query, parts.hostname) == ("/cam", "x=1", "127.0.0.1")


@pytest.mark.parametrize("stated", [b";source=169.254.169.254", b""])
def test_udp_packets_come_from_the_camera_that_was_checked(stated: bytes) -> None:
    transport = b"RTP/AVP;unicast;client_port=5000-5001" + stated + b";server_port=6000-6001"
    packet = b"$\x01\x00\x03END"
    with relayed(b"RTSP/1.0 200 OK\r\nTransport: " + transport + b"\r\n\r\n" + packet) as (_, client, _):
        found = received(client)
    assert b"169.254" not in found
    assert b";server_port=6000-6001;source=127.0.0.1\r\n" in found


def test_a_transport_over_the_connection_is_not_changed() -> None:
    response = b"RTSP/1.0 200 OK\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n$\x01\x00\x03END"
    with relayed(response) as (_, client, _):
        assert received(client) == response


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"RTSP/1.0 302 Moved\r\nLocation: rtsp://10.0.0.1/\r\n\r\n", "redirects to another address"),
        (b"REDIRECT rtsp://10.0.0.1/ RTSP/1.0\r\nCSeq: 3\r\n\r\n", "redirects to another address"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 999999999\r\n\r\n", "at most 1000000 are read"),
        (b"x" * 200_000, "speaks no RTSP"),
    ],
)
def test_redirects_and_endless_responses_close_the_connection(response: bytes, reason: str) -> None:
    with relayed(response) as (relay, client, _):
        assert received(client) == b""
        assert isinstance(relay.error, VideoError)
        assert reason in str(relay.error)


def test_a_wrong_password_is_named_without_it() -> None:
    with relayed(b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n\r\n$\x01\x00\x03END") as (relay, client, _):
        received(client)
        assert isinstance(relay.error, VideoUnavailableError)
        assert "user or password is wrong" in str(relay.error)
        assert "p%40ss" not in str(relay.error)


def test_close_ends_a_read_that_waits() -> None:
    with relayed(b"") as (relay, client, _):
        threading.Timer(0.05, relay.close).start()
        began = time.monotonic()
        assert received(client) == b""
        assert time.monotonic() - began < 2
