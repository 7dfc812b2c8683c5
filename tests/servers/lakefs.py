"""Imitates the LakeFS endpoints that Standgale uses: branches with uncommitted objects, commits, tags, and faults.

Responses have the fields and statuses of the real API, so that the library's own models read them.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.servers.threads import AppServer

ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE", "hush-hush-lakefs"
Objects = dict[str, Path]


@dataclass
class Repository:
    """Holds a repository's branches, commits and tags."""

    branches: dict[str, Objects] = field(default_factory=lambda: {"main": {}})
    """The objects on each branch, committed or not."""
    heads: dict[str, str] = field(default_factory=lambda: {"main": "c0"})
    commits: dict[str, Objects] = field(default_factory=lambda: {"c0": {}})
    """The objects of each commit, by its id."""
    tags: dict[str, str] = field(default_factory=dict)
    """The commit id of each tag."""
    messages: list[str] = field(default_factory=list)

    def at(self, ref: str) -> Objects | None:
        """Return the objects of a branch, tag or commit."""
        return self.branches.get(ref, self.commits.get(self.tags.get(ref, ref)))


class LakeFsServer(AppServer):
    """Serves repositories; the next ``locked`` commits get the response "branch is currently locked"."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.repositories = {"standgale": Repository()}
        self.locked = 0
        app = web.Application(client_max_size=1 << 40, middlewares=[_authenticated])
        base = "/api/v1/repositories/{repository}"
        app.router.add_get(base + "/refs/{ref}/objects", self._get)
        app.router.add_get(base + "/refs/{ref}/objects/ls", self._list)
        app.router.add_get(base + "/branches/{ref}", self._branch)
        app.router.add_post(base + "/branches/{ref}/objects", self._upload)
        app.router.add_post(base + "/branches/{ref}/commits", self._commit)
        super().__init__(app)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = self._objects(request).get(request.query["path"])
        return web.FileResponse(path) if path else _message(404, "path does not exist: object not found")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        prefix, after = request.query.get("prefix", ""), request.query.get("after", "")
        amount = min(int(request.query.get("amount", "100")), 2)
        there = sorted(key for key in self._objects(request) if key.startswith(prefix) and key > after)
        page = there[:amount]
        more = len(there) > len(page)
        pagination = {
            "has_more": more,
            "next_offset": page[-1] if more else "",
            "results": len(page),
            "max_per_page": 1000,
        }
        stats = [
            {"path": key, "path_type": "object", "physical_address": "x", "checksum": "x", "mtime": 1} for key in page
        ]
        return web.json_response({"pagination": pagination, "results": stats})

    async def _branch(self, request: web.Request) -> web.StreamResponse:
        name = self._writable(request)
        return web.json_response({"id": name, "commit_id": self._repository(request).heads[name]})

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        objects = self._repository(request).branches[self._writable(request)]
        key = request.query["path"]
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / uuid4().hex
        with target.open("wb") as file:
            async for chunk in request.content.iter_chunked(1 << 16):
                file.write(chunk)
        if request.headers.get("If-None-Match") == "*" and key in objects:
            return _message(412, "precondition failed: path already exists")
        objects[key] = target
        stat = {"path": key, "path_type": "object", "physical_address": "x", "checksum": "x", "mtime": 1}
        return web.json_response(stat, status=201)

    async def _commit(self, request: web.Request) -> web.StreamResponse:
        name, repository = self._writable(request), self._repository(request)
        message = (await request.json())["message"]
        if self.locked:
            self.locked -= 1
            return _message(500, "branch is currently locked, try again later")
        if repository.commits[repository.heads[name]] == repository.branches[name]:
            return _message(400, "commit: no changes")
        commit = f"c{len(repository.commits)}"
        repository.commits[commit] = dict(repository.branches[name])
        fields = {
            "id": commit,
            "parents": [repository.heads[name]],
            "committer": "test",
            "message": message,
            "creation_date": int(time.time()),
            "meta_range_id": "x",
            "metadata": {},
        }
        repository.heads[name] = commit
        repository.messages.append(message)
        return web.json_response(fields, status=201)

    def _repository(self, request: web.Request) -> Repository:
        found = self.repositories.get(request.match_info["repository"])
        if found is None:
            raise _missing("repository not found")
        return found

    def _objects(self, request: web.Request) -> Objects:
        found = self._repository(request).at(request.match_info["ref"])
        if found is None:
            raise _missing("ref not found")
        return found

    def _writable(self, request: web.Request) -> str:
        name = request.match_info["ref"]
        if name not in self._repository(request).branches:
            raise _missing("branch not found")
        return name


@web.middleware
async def _authenticated(request: web.Request, handler: Any) -> web.StreamResponse:
    wanted = base64.b64encode(f"{ACCESS_KEY}:{SECRET_KEY}".encode()).decode()
    if request.headers.get("Authorization") != f"Basic {wanted}":
        return _message(401, "error authenticating request")
    response: web.StreamResponse = await handler(request)
    return response


def _message(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _missing(text: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=json.dumps({"message": text}), content_type="application/json")
