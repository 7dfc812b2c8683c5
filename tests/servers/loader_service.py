"""Serves POST /load/{filename} and /upload/{filename} of a loader service from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from tests.servers.threads import AppServer


class LoaderServer(AppServer):
    """Keeps files under ``folder / <folder of the request> / <filename>``, each visible when it is complete."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.respond: Callable[[], web.Response] | None = None
        """Makes the response to every request, where it is set."""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and fields of each request."""
        app = web.Application(client_max_size=1 << 40)
        app.router.add_post("/load/{filename}", self._load)
        app.router.add_post("/upload/{filename}", self._upload)
        super().__init__(app)

    async def _load(self, request: web.Request) -> web.StreamResponse:
        fields = await request.json()
        self.seen.append((request.method, request.raw_path, fields))
        if self.respond is not None:
            return self.respond()
        path = self._folder / fields["folder"] / fields["filename"]
        return web.FileResponse(path) if path.is_file() else web.json_response({"error": "no such file"}, status=404)

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        fields: dict[str, str] = {}
        unfinished = self._folder / f".{uuid4().hex}"
        self._folder.mkdir(parents=True, exist_ok=True)
        async for part in await request.multipart():
            if part.name == "data":
                fields["filename"] = part.filename or ""
                with unfinished.open("wb") as file:
                    while chunk := await part.read_chunk(1 << 16):
                        file.write(chunk)
            else:
                fields[part.name or ""] = await part.text()
        self.seen.append((request.method, request.raw_path, fields))
        if self.respond is not None:
            return self.respond()
        target = self._folder / fields["folder"] / fields["filename"]
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.rename(target)
        return web.json_response({"status": "ok"})
