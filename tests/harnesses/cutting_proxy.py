"""Passes bytes on to a server, and resets connections in the middle of what they send."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_PIECE = 65_536


class CuttingProxy:
    """Is a TCP server on one port in front of another."""

    def __init__(self, target: int, seed: int) -> None:
        self.port = 0
        self.cuts = 0
        self._target = target
        self._random = random.Random(seed)
        self._cut_after: int | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset the connections now, or in the middle of one of the next pieces that the client sends."""
        self._cut_after = self._random.randrange(_PIECE)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pass_on(reader, back, cutting=True), self._pass_on(there, writer, cutting=False))
        for each in (writer, back):
            self._writers.discard(each)
            _reset(each)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cutting: bool) -> None:
        with suppress(OSError):
            while piece := await reader.read(_PIECE):
                if cutting and self._cut_after is not None:
                    writer.write(piece[: self._cut_after])
                    await writer.drain()
                    self._cut_after = None
                    self.cuts += 1
                    for each in list(self._writers):
                        _reset(each)
                    return
                writer.write(piece)
                await writer.drain()
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    sending = writer.get_extra_info("socket")
    with suppress(OSError):
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def cutting_proxy(target: int, seed: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(target, seed)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for writer in list(proxy._writers):
            _reset(writer)
