"""Reads a video over HTTP for FFmpeg, which itself opens no connection; redirects are checked as the first address."""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import unquote, urljoin

from infra.errors import SettingsError
from infra.network.addresses import AddressRules, Lookup, connect, look_up
from ingest.video.errors import VideoError, VideoUnavailableError
from ingest.video.options import NetworkAddress, parse_address
from schemas.errors import StandgaleError

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIES = 5
# A gap up to this size is read and dropped, which is cheaper than a new connection.
_SKIP_BYTES = 1_000_000
_CHUNK = 65_536
_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Answer:
    """Is an open response, with the connection under it."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def close(self) -> None:
        with suppress(OSError):
            self.connection.close()


class HttpInput:
    """Is a file object for FFmpeg; closing it from another thread ends a read that waits.

    A server that gives ranges makes it seekable; then a connection that breaks off is opened again where it ended.
    """

    def __init__(
        self, address: NetworkAddress, rules: AddressRules, *, timeout_s: float, lookup: Lookup = look_up
    ) -> None:
        """Connect and read the headers. Raises VideoError, VideoUnavailableError or AddressRefusedError."""
        self._address = address
        self._rules = rules
        self._timeout_s = timeout_s
        self._lookup = lookup
        self._closed = threading.Event()
        self._position = 0
        self.error: Exception | None = None
        """What ended the reading; to FFmpeg that is the end of the file"""
        self._answer = self._open(0)
        headers = self._answer.response.headers
        self.content_type = (headers.get_content_type() or "").lower()
        length = self._answer.response.length
        ranges = self._answer.response.status == 206 or headers.get("accept-ranges", "").lower() == "bytes"
        self.size = length if length is not None else None
        self._tag = headers.get("etag") or headers.get("last-modified")
        self.is_recording = self.size is not None and self.content_type != "multipart/x-mixed-replace"
        """Whether it is a file of known size, and no stream that goes on"""
        self._can_seek = ranges and self.is_recording
        if self._can_seek:
            # FFmpeg takes an object with `seek` for one that can seek.
            self.seek = self._seek
        self.name = str(address)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end, and after an error. FFmpeg calls it.

        Errors are kept in ``error``: after one that is raised through FFmpeg, it would go on reading.
        """
        if self.error is not None:
            return b""
        try:
            return self._read(size)
        except StandgaleError as error:
            self.error = error
            return b""

    def _read(self, size: int) -> bytes:
        failures = 0
        while True:
            reason = "it ended before the file did"
            try:
                data = self._answer.response.read1(size)
            except (OSError, http.client.HTTPException) as error:
                data, reason = b"", _reason(error)
                if self.size is None:
                    self._raise_if_closed()
                    raise VideoUnavailableError(f"{self._address}: the connection broke off ({reason})") from error
            self._raise_if_closed()
            self._position += len(data)
            if data or self.size is None or self._position >= self.size:
                return data
            failures += 1
            if not self._can_seek or failures > _RETRIES:
                raise VideoUnavailableError(
                    f"{self._address}: the connection broke off after {self._position} of {self.size} bytes ({reason})"
                )
            self._closed.wait(min(0.2 * 2**failures, 3.0))
            self._continue_at(self._position)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def _seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert self.size is not None
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        target = max(0, min(self.size, base + offset))
        ahead = target - self._position
        if 0 <= ahead <= _SKIP_BYTES:
            while self._position < target and self.read(min(_CHUNK, target - self._position)):
                pass
        elif target == self.size or self.error is not None:
            self._position = target
        else:
            try:
                self._continue_at(target)
            except StandgaleError as error:
                self.error = error
        return self._position

    def close(self) -> None:
        """End the connection and any read that waits for it."""
        self._closed.set()
        sock = self._answer.connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._answer.close()

    def _continue_at(self, position: int) -> None:
        """Open the file again, to read on at ``position``."""
        self._answer.close()
        self._answer = self._open(position)
        headers = self._answer.response.headers
        if position and self._answer.response.status != 206:
            raise VideoError(f"{self._address}: the server no longer gives parts of the file")
        if (headers.get("etag") or headers.get("last-modified")) != self._tag:
            raise VideoError(f"{self._address}: the file was changed while it was read; read it again")
        self._position = position

    def _raise_if_closed(self) -> None:
        if self._closed.is_set():
            raise VideoUnavailableError(f"{self._address}: reading was stopped")

    def _open(self, position: int) -> _Answer:
        """Follow redirects to an answer with the file. Every address on the way is checked."""
        address = self._address
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._request(address, position)
            status = answer.response.status
            if status not in _REDIRECTS:
                if status in (200, 206):
                    return answer
                answer.close()
                if status in _RETRY_STATUS:
                    raise VideoUnavailableError(f"{address}: the server answered {status}")
                raise VideoError(f"{address}: the server answered {status} {answer.response.reason[:40]!a}")
            location = answer.response.headers.get("location", "")
            answer.close()
            address = _redirected(address, location)
        raise VideoError(f"{self._address}: more than {MAX_REDIRECTS} redirects")

    def _request(self, address: NetworkAddress, position: int) -> _Answer:
        headers = {"User-Agent": "standgale", "Accept": "*/*", "Accept-Encoding": "identity"}
        # Also from the start: the status then says whether the server gives parts.
        headers["Range"] = f"bytes={position}-"
        if address.user is not None:
            login = f"{unquote(address.user)}:{unquote(address.password or '')}"
            secret = base64.b64encode(login.encode()).decode()
            headers["Authorization"] = f"Basic {secret}"
        connection = http.client.HTTPConnection(address.host, address.port, timeout=self._timeout_s)
        try:
            sock = connect(address.host, address.port, self._rules, timeout_s=self._timeout_s, lookup=self._lookup)
            connection.sock = sock
            if address.scheme == "https":
                connection.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=address.host)
            connection.request("GET", address.target, headers=headers)
            with _deadline(connection, self._timeout_s):
                response = connection.getresponse()
            return _Answer(connection, response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise VideoUnavailableError(f"{address}: no answer ({_reason(error)})") from error


@contextmanager
def _deadline(connection: http.client.HTTPConnection, timeout_s: float) -> Iterator[None]:
    """End the connection after ``timeout_s``: each byte alone may come in time, and the headers never end."""
    sock = connection.sock
    has_ended = threading.Event()

    def end() -> None:
        has_ended.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if has_ended.is_set():
            # To the parser of headers the end of the connection is the end of the headers.
            raise TimeoutError


def _redirected(address: NetworkAddress, location: str) -> NetworkAddress:
    """Return where a redirect leads to; a password is not taken along to another server."""
    base = f"{address.scheme}://{f'[{address.host}]' if ':' in address.host else address.host}:{address.port}"
    try:
        target = parse_address(urljoin(base + address.target, location))
    except SettingsError as error:
        raise VideoError(f"{address}: it redirects to an address that is not allowed ({error})") from error
    if not isinstance(target, NetworkAddress) or target.scheme not in ("http", "https"):
        raise VideoError(f"{address}: it redirects to an address that is not allowed; only http and https are followed")
    if address.scheme == "https" and target.scheme == "http":
        raise VideoError(f"{address}: it redirects from https to http, which is not followed")
    if (target.host, target.port) == (address.host, address.port) and target.user is None:
        return replace(target, user=address.user, password=address.password)
    return target


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no data within the time limit video.read_timeout_s"
    return str(getattr(error, "strerror", None) or error)[:200] or type(error).__name__
