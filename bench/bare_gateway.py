"""Serves a handler that only reads, hashes and writes a body: what the gateway is compared with.

Run as a separate process: ``python -m bench.bare_gateway PORT FOLDER durable|plain``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from starlette.types import Receive, Scope, Send

from infra.process.components import run_components
from infra.process.health import Health
from infra.process.http_server import HttpComponent
from infra.process.service import run_service

_THREADS = 16
"""As many as the folder store has."""


class BareHandler:
    """Responds to a POST with 202 when the file is written; ``durable`` adds the two fsyncs of the folder store."""

    def __init__(self, folder: Path, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._threads = ThreadPoolExecutor(_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            digest, chunks, more = sha256(), [], True
            while more:
                message = await receive()
                chunk = message.get("body", b"")
                digest.update(chunk)
                chunks.append(chunk)
                more = message.get("more_body", False)
            data = b"".join(chunks)
            await asyncio.get_running_loop().run_in_executor(self._threads, self._write, digest.hexdigest(), data)
        status = 202 if scope["method"] == "POST" else 200
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    def _write(self, name: str, data: bytes) -> None:
        unfinished = self._folder / f"{name}.unfinished"
        with unfinished.open("wb", buffering=0) as file:
            file.write(data)
            if self._durable:
                os.fsync(file.fileno())
        unfinished.rename(self._folder / name)
        if self._durable:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


async def _serve(port: int, folder: Path, durable: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    server = HttpComponent("bare", BareHandler(folder, durable), host="127.0.0.1", port=port)
    return await run_components([server], health=Health(), drain_timeout_s=5.0)


def main() -> int:
    """Serve until the process is asked to stop."""
    port, folder, kind = sys.argv[1:]
    return run_service(lambda: _serve(int(port), Path(folder), kind == "durable"))


if __name__ == "__main__":
    sys.exit(main())
