"""Puts a gate before a server, which can cut its connections, hold their bytes, and be shut and opened again.

It runs in a thread of the test process, so that a test's own loop may block, and processes of the test can use it too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")

TIMEOUT_S = 30.0
_PIECE = 65_536


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns, run over there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self.opened())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.run(self.closed())
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT_S)
        self.loop.close()

    async def opened(self) -> None:
        """Begin to serve."""

    async def closed(self) -> None:
        """End serving."""


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


Direction = Literal["down", "up"]


class Gate(LoopThread):
    """Passes bytes to a server on another port, and back, until a test cuts or holds them. down: from it; up: to it."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._passed: dict[Direction, int] = {"down": 0, "up": 0}
        self._limit: tuple[Direction, int, Literal["cut", "hold"]] | None = None
        self._unlimited = asyncio.Event()
        self.reached = threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def shut(self) -> None:
        """As if the server were gone: connections are lost, new ones refused."""
        self.run(self.closed())

    def go_on(self) -> None:
        """Pass everything again, also what was held."""
        self._limit = None
        self.loop.call_soon_threadsafe(self._unlimited.set)

    def reopen(self) -> None:
        """As if the server were back, on the same port, with none of its connections."""
        self.run(self.closed())  # before anything that was held goes on: of that nothing reaches the server
        self.go_on()
        self.run(self.opened())

    def limit(self, direction: Direction, count: int, then: Literal["cut", "hold"]) -> None:
        """After ``count`` bytes in ``direction`` from now on cut each connection, or hold all bytes back."""
        self._passed = {"down": 0, "up": 0}
        self.reached.clear()
        self.loop.call_soon_threadsafe(self._unlimited.clear)
        self._limit = (direction, count, then)

    async def opened(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def closed(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._writers):
                writer.transport.abort()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, back}
            try:
                await asyncio.gather(self._pass("up", reader, back), self._pass("down", there, writer))
            finally:
                self._writers -= {writer, back}
        writer.close()

    async def _pass(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                self._passed[direction] += len(piece)
                if self._limit is not None and self._limit[0] == direction and self._passed[direction] > self._limit[1]:
                    self.reached.set()
                    if self._limit[2] == "cut":
                        for end in (writer, *self._writers):
                            end.transport.abort()
                        return
                    await self._unlimited.wait()
                writer.write(piece)
                await writer.drain()
        # asyncio raises when a transport is aborted that was closed and has sent all: this one needs no abort any more.
        self._writers.discard(writer)
        writer.close()
