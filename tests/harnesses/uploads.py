"""Forms with pictures for the console, and jobs without their endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from io import BytesIO
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

from standgale.testing.waiting import until
from tests.servers.console import ConsoleResponse, RunningConsole

UPLOAD = "/api/v1/inference/upload"


def picture(kind: str = "JPEG", width: int = 96, height: int = 80, seed: int = 1) -> bytes:
    """A picture of noise."""
    out = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(out, kind)
    return out.getvalue()


def form(files: Iterable[tuple[str, bytes]], part: str = "files") -> aiohttp.FormData:
    """A form as curl -F makes it."""
    found = aiohttp.FormData(quote_fields=False)
    for name, data in files:
        found.add_field(part, data, filename=name)
    return found


async def upload(console: RunningConsole, *files: tuple[str, bytes], **options: Any) -> ConsoleResponse:
    """Send ``files`` as one upload."""
    return await console.post(UPLOAD, data=form(files), **options)


class Sending:
    """Is an upload whose first file has arrived; a test decides when the rest comes."""

    def __init__(self, console: RunningConsole, *, more: bool = False) -> None:
        """``more``: whether another file comes."""
        self._console = console
        self._more = more
        self._rest = asyncio.Event()
        self._response: asyncio.Task[ConsoleResponse] | None = None

    async def begin(self) -> None:
        """Send a file; return when its row is written."""
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        self._response = asyncio.create_task(self._console.post(UPLOAD, data=self._pieces(), headers=headers))
        await until(self._files, "the first file")

    async def end(self) -> ConsoleResponse:
        """Send the rest; return the response."""
        assert self._response is not None
        self._rest.set()
        return await self._response

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"--x\r\n" + _part("a.jpg", picture()) + b"\r\n--x"
        await self._rest.wait()
        if self._more:
            yield b"\r\n" + _part("b.jpg", picture(seed=2)) + b"\r\n--x"
        yield b"--\r\n"

    async def _files(self) -> int:
        async with self._console.database.acquire() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM uploaded_files"))


def _part(name: str, data: bytes) -> bytes:
    return f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + data
