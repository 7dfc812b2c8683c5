"""Serves an ASGI app, or the health pages, as a component of the process."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from infra.errors import SettingsError
from infra.process.health import Health, HealthPart, health_app
from infra.process.http_connections import ConnectionTable
from infra.process.http_protocol import BoundedProtocol, ProtocolConfig
from infra.process.http_settings import HttpSettings
from infra.process.open_files import release_open_files, reserve_open_files
from infra.process.stopping import waiting_for
from infra.process.websocket_protocol import MAX_TEXT_BYTES, BoundedWebSocket
from infra.telemetry.sampled_log import SampledLog
from infra.telemetry.settings import TelemetrySettings
from infra.waiting import wait_until_set
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

# The share of the drain time that is left for closing, after requests that do not end were cancelled.
_HTTP_SHARE = 0.8
# The limits of time are enforced at every fifth tick.
_TICK_S = 0.1
_SWEEP_EVERY_TICKS = 5
_MOST_TICKS = 1_000_000
# The kernel would keep megabytes for a client that reads nothing, and hide for minutes that it does not read.
_SEND_BUFFER_BYTES = 64 * 1024
_KEEPALIVE_S = 10


class StartError(StandgaleError):
    """A component could not start."""

    code = "START_FAILED"


class _Server(uvicorn.Server):
    """Runs uvicorn without its signal handlers, because :mod:`infra.process.components` handles the signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._exit = asyncio.Event()

    def exit_now(self) -> None:
        """End the main loop at once; uvicorn's own would notice it at its next tick."""
        self.should_exit = True
        self._exit.set()

    async def main_loop(self) -> None:
        """Tick until the server is to exit."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % _MOST_TICKS
            await wait_until_set(self._exit, _TICK_S)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then set ``listening``. Raises StartError where uvicorn would end the whole process."""
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise StartError("the HTTP app did not start; its error is in the log above") from error
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        """Enforce the limits of time; return whether to exit."""
        if counter % _SWEEP_EVERY_TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol | BoundedWebSocket):
                    connection.sweep(now)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Keep the signal handlers of the process."""
        yield


class HttpComponent:
    """Serves an ASGI app with uvicorn; several may run in one event loop.

    ``setting`` is what is before "host" and "port" in the names of its settings, for the error text; by default its
    name and a dot. ``on_stop`` is called at a stop, before connections are closed, so that streams can end.
    ``http`` has the limits of requests and connections.
    """

    websocket_class: type[BoundedWebSocket] | Literal["none"] = "none"

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        drain_timeout_s: float = 25.0,
        setting: str | None = None,
        http: HttpSettings | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._host = host
        self._port = port
        self._setting = setting or f"{name}."
        self._on_stop = on_stop
        self._socket: socket.socket | None = None
        self._http = http or HttpSettings()
        self._connections = ConnectionTable(name, self._http.max_connections, self._http.address_share)
        self._server = _Server(self._config(app, drain_timeout_s))

    def _config(self, app: ASGIApp, drain_timeout_s: float) -> ProtocolConfig:
        config = ProtocolConfig(
            app,
            http=BoundedProtocol,
            ws=self.websocket_class,
            ws_max_size=MAX_TEXT_BYTES,
            # A compressed message may be a thousand times as large as its bytes.
            ws_per_message_deflate=False,
            ws_ping_interval=self._http.ping_interval_s,
            ws_ping_timeout=self._http.ping_interval_s,
            log_config=None,
            access_log=False,
            server_header=False,
            # uvicorn would believe every process on this machine.
            proxy_headers=bool(self._http.trusted_proxies),
            forwarded_allow_ips=list(self._http.trusted_proxies),
            timeout_graceful_shutdown=max(1, int(drain_timeout_s * _HTTP_SHARE)),
        )
        # uvicorn's type is int, but it only gives it to the event loop.
        config.timeout_keep_alive = self._http.keep_alive_s  # type: ignore[assignment]
        config.limits, config.table, config.log = self._http, self._connections, SampledLog(logger)
        return config

    def bind(self) -> int:
        """Take the port (``run`` does it too) and return its number, also when the setting is port 0.

        Raises SettingsError when the port is used or the host is not an address of this machine.
        """
        if self._socket is None:
            try:
                family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
                self._socket = socket.create_server((self._host, self._port), family=family, backlog=2048)
            except OSError as error:
                raise SettingsError(
                    f"{self.name} cannot listen on {self._host}:{self._port} ({error.strerror}); "
                    f"change {self._setting}host or {self._setting}port, or stop the process that uses it"
                ) from error
            self._socket.setblocking(False)
            self._limit_unread_data(self._socket)
            self._connections.set_most(reserve_open_files(self.name, self._connections.most))
        return self.port

    def _limit_unread_data(self, listener: socket.socket) -> None:
        """Make the kernel end connections whose clients read nothing; those that are accepted inherit it."""
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Without these the system would ask after two hours whether a client that is sent nothing is still there.
        for name, value in (("TCP_KEEPIDLE", _KEEPALIVE_S), ("TCP_KEEPINTVL", _KEEPALIVE_S), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        # Linux only. It ends a connection whose peer acknowledges nothing, or leaves no room, for so long.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_ms = int(self._http.write_timeout_s * 1_000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    @property
    def port(self) -> int:
        """The bound port; the configured one before :meth:`bind`."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._port

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Serve until ``stop`` is set, then let open requests finish."""
        self.bind()
        assert self._socket is not None
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name=f"{self.name}-http")
        try:
            async with waiting_for(self._server.listening) as up:
                await asyncio.wait({up, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            logger.info("%s listens on http://%s:%d", self.name, self._host, self.port)
            health.set_ready()
            async with waiting_for(stop) as stopped:
                await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and self._on_stop is not None:
                self._on_stop()
            self._server.exit_now()
            await serving
        finally:
            if not serving.done():
                serving.cancel()
                await asyncio.wait({serving})
            self._socket.close()
            release_open_files(self.name)


class WebSocketComponent(HttpComponent):
    """Serves an ASGI app that has WebSockets, too."""

    websocket_class = BoundedWebSocket


def health_component(settings: TelemetrySettings, health: Health, http: HttpSettings | None = None) -> HttpComponent:
    """Return the component that serves `/health/live`, `/health/ready` and `/metrics`."""
    return HttpComponent(
        "health",
        health_app(health),
        host=settings.health_host,
        port=settings.health_port,
        drain_timeout_s=5.0,
        setting="telemetry.health_",
        http=http,
    )
