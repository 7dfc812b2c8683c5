"""Relays RTSP between FFmpeg and a camera, so that FFmpeg reaches no other address than the one that was checked.

FFmpeg connects to this machine; the relay has connected to the camera. It passes requests on unchanged, and reads the
responses: a redirect ends the connection, and the address that UDP packets come from is the camera's, whatever it says.
With rtsps the relay speaks TLS and checks the certificate. Closing it ends at once what FFmpeg waits for.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from urllib.parse import quote

from infra.network.addresses import AddressRules, Lookup, connect, look_up
from ingest.video.errors import CameraLoginError, VideoError, VideoUnavailableError
from ingest.video.options import NetworkAddress

_MAX_HEAD_BYTES = 65_536
_MAX_BODY_BYTES = 1_000_000
_CHUNK = 65_536
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: {0,8}(\d{1,9})\r\n", re.IGNORECASE)
_TRANSPORT = re.compile(rb"(\r\ntransport: {0,8})([^\r\n]{0,1024})", re.IGNORECASE)
_SOURCE = re.compile(rb";source=[^;\r\n]{0,255}", re.IGNORECASE)
_REDIRECTS = frozenset({b"300", b"301", b"302", b"303", b"305", b"307", b"308"})
# A request from the server that asks to go elsewhere.
_SERVER_REDIRECT = re.compile(rb"REDIRECT ", re.IGNORECASE)


class RtspRelay:
    """Relays one RTSP connection; ``url`` is what FFmpeg opens."""

    def __init__(
        self, address: NetworkAddress, rules: AddressRules, *, timeout_s: float, lookup: Lookup = look_up
    ) -> None:
        """Connect to the camera. Raises VideoUnavailableError, or AddressRefusedError for its address."""
        self._address = address
        self.error: Exception | None = None
        """Why the relay ended the connection; FFmpeg itself reports only that it failed"""
        self._camera = self._connect(rules, timeout_s, lookup)
        self._camera_host = str(self._camera.getpeername()[0])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        # The listener is closed once FFmpeg has connected.
        self._port = int(self._listener.getsockname()[1])
        self._listener.settimeout(timeout_s)
        self._client: socket.socket | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtsp-relay", daemon=True)
        self._thread.start()

    def _connect(self, rules: AddressRules, timeout_s: float, lookup: Lookup) -> socket.socket:
        address = self._address
        try:
            camera = connect(address.host, address.port, rules, timeout_s=timeout_s, lookup=lookup)
        except OSError as error:
            raise VideoUnavailableError(f"{address}: no connection ({error.strerror or error})") from error
        try:
            if address.scheme == "rtsps":
                camera = ssl.create_default_context().wrap_socket(camera, server_hostname=address.host)
        except OSError as error:
            camera.close()
            raise VideoUnavailableError(f"{address}: no TLS connection ({error})") from error
        # Silence is FFmpeg's to notice: the relay itself waits as long as the connection is open.
        camera.settimeout(None)
        return camera

    @property
    def url(self) -> str:
        """The address for FFmpeg, with the camera's user and password."""
        login = ""
        if self._address.user is not None:
            login = f"{self._address.user}:{quote(self._address.password or '', safe='%')}@"
        return f"rtsp://{login}127.0.0.1:{self._port}{self._address.target}"

    def close(self) -> None:
        """End both connections, and with them what FFmpeg waits for."""
        self._closed.set()
        for each in (self._listener, self._client, self._camera):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._client, _ = self._listener.accept()
            self._listener.close()
            requests = threading.Thread(target=self._pass_requests, name="rtsp-requests", daemon=True)
            requests.start()
            self._pass_responses(_Reader(self._camera), self._client)
        except (OSError, VideoError) as error:
            if not self._closed.is_set() and self.error is None:
                self.error = error if isinstance(error, VideoError) else None
        finally:
            for each in (self._client, self._camera):
                if each is not None:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    def _pass_requests(self) -> None:
        assert self._client is not None
        with suppress(OSError):
            while data := self._client.recv(_CHUNK):
                self._camera.sendall(data)
        with suppress(OSError):
            self._camera.shutdown(socket.SHUT_WR)

    def _pass_responses(self, camera: _Reader, client: socket.socket) -> None:
        while True:
            first = camera.peek(1)
            if not first:
                return
            if first == b"$":
                # A packet of pictures or of RTCP between the responses.
                head = camera.exactly(4)
                client.sendall(head + camera.exactly(int.from_bytes(head[2:4])))
                continue
            head = camera.until(b"\r\n\r\n", _MAX_HEAD_BYTES)
            self._check(head)
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if size > _MAX_BODY_BYTES:
                raise VideoError(f"{self._address}: a response has {size} bytes; at most {_MAX_BODY_BYTES} are read")
            client.sendall(self._with_own_source(head) + camera.exactly(size))

    def _check(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if (status is not None and status[1] in _REDIRECTS) or _SERVER_REDIRECT.match(head):
            raise VideoError(
                f"{self._address}: the camera redirects to another address, which is not followed; give that address"
            )
        if status is not None and status[1] in (b"401", b"403", b"404"):
            reason = {b"401": "user or password is wrong", b"403": "it refuses", b"404": "it has no such path"}[
                status[1]
            ]
            kind = CameraLoginError if status[1] == b"401" else VideoUnavailableError
            self.error = kind(f"{self._address}: the camera answered {status[1].decode()}: {reason}")
        elif status is not None and status[1] == b"200":
            self.error = None

    def _with_own_source(self, head: bytes) -> bytes:
        """Return ``head`` with the camera as the source of UDP packets."""
        found = _TRANSPORT.search(head)
        if found is None or b"interleaved" in found[2].lower() or b"tcp" in found[2].lower():
            return head
        source = f";source={self._camera_host}".encode()
        changed = found[1] + _SOURCE.sub(b"", found[2]) + source
        return head[: found.start()] + changed + head[found.end() :]


class _Reader:
    """Reads exact parts from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def _fill(self) -> bool:
        data = self._sock.recv(_CHUNK)
        self._buffer += data
        return bool(data)

    def peek(self, size: int) -> bytes:
        while len(self._buffer) < size and self._fill():
            pass
        return bytes(self._buffer[:size])

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._fill():
                raise ConnectionResetError("the connection ended inside a message")
        return self._take(size)

    def until(self, end: bytes, most: int) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > most:
                raise VideoError("the other side speaks no RTSP: a message's head never ends")
            if not self._fill():
                raise ConnectionResetError("the connection ended inside a message")
        return self._take(at + len(end))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken
