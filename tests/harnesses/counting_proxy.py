"""Passes bytes on to a server, and counts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class PassedBytes:
    """Counts what was passed on, in both directions, through the listener on ``port``."""

    port: int = 0
    total: int = 0

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                self.total += len(piece)
                writer.write(piece)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def counting_proxy(target: int) -> AsyncIterator[PassedBytes]:
    """Listen in front of the port ``target`` inside the block."""
    passed = PassedBytes()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(passed.pass_on(reader, back), passed.pass_on(there, writer))

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listening:
        passed.port = listening.sockets[0].getsockname()[1]
        yield passed
