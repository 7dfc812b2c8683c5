"""Imitates the LakeFS endpoints that Standgale uses, with the statuses that a real server (1.84) was seen to return.

Responses have the fields of the real API. Faults: ``fail`` (the next responses), ``answers``, ``hang_s``,
``lose_responses`` (the request is done, the connection is closed), ``gate`` of :class:`standgale.testing.gate.Gate` for
connections.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.servers.lakefs_state import Branch, Commit, Entry, Repository
from tests.servers.threads import AppServer

ACCESS_KEY, SECRET_KEY = "AKIAEXAMPLE", "hush-hush-lakefs"
_PAGE = 1_000
_META = "x-lakefs-meta-"
_COMMIT_S = 0.01


class LakeFsServer(AppServer):
    """Serves repositories; see the module for its faults.

    ``external`` returns the bytes of an object outside of the repositories, which were linked; None when it is gone.
    """

    def __init__(self, folder: Path, external: Callable[[str], bytes | None] = lambda address: None) -> None:
        self._folder = folder
        self.external = external
        self.repositories = {name: Repository(name) for name in ("standgale", "bird-detection")}
        self.fail: list[tuple[str, int, str]] = []
        """The next requests whose method and path contain the text get the status and message."""
        self.answers: Callable[[str], web.Response | None] = lambda called: None
        """Answers a request, by its method and path, while it is set; None: the request is done as usual."""
        self.hang_s = 0.0
        self.lose_responses = 0
        """So many changes are made, and their responses lost."""
        self._ends: tuple[int, bool] | None = None
        self.page = _PAGE
        """The most entries of a page, fewer than asked for is allowed"""
        self.requests: list[str] = []
        """Method and path of each request, in order"""
        app = web.Application(client_max_size=1 << 40, middlewares=[self._faults, _authenticated])
        base = "/api/v1/repositories/{repository}"
        refs, branches = base + "/refs/{ref}", base + "/branches/{ref}"
        app.router.add_get(base, self._info)
        app.router.add_get(refs + "/objects", self._get)
        app.router.add_get(refs + "/objects/stat", self._stat)
        app.router.add_get(refs + "/objects/ls", self._list)
        app.router.add_get(refs + "/commits", self._log)
        app.router.add_get(base + "/branches", self._list_branches)
        app.router.add_post(base + "/branches", self._create_branch)
        app.router.add_get(branches, self._branch)
        app.router.add_delete(branches, self._delete_branch)
        app.router.add_get(branches + "/diff", self._diff)
        app.router.add_post(branches + "/objects", self._upload)
        app.router.add_post(branches + "/objects/delete", self._remove)
        app.router.add_put(branches + "/staging/backing", self._link)
        app.router.add_post(branches + "/commits", self._commit)
        app.router.add_post(base + "/tags", self._create_tag)
        app.router.add_get(base + "/tags/{tag}", self._tag)
        app.router.add_delete(base + "/tags/{tag}", self._delete_tag)
        # Any other path is one of the web page.
        app.router.add_route("*", "/{path:(?!api/).*}", _page)
        super().__init__(app)

    def file_of(self, entry: Entry) -> Path:
        """Return the file with the bytes of an entry that was uploaded."""
        return self._folder / entry.address.rpartition("/")[2]

    def end_at(self, step: int, *, done: bool) -> None:
        """After ``step`` further requests, close every connection; the next request is ``done`` before that or not."""
        self._ends = step, done

    def go_on(self) -> None:
        """Respond to requests again."""
        self._ends = None

    def put(self, repository: str, path: str, data: bytes, branch: str = "main") -> None:
        """Stage an object."""
        self._folder.mkdir(parents=True, exist_ok=True)
        found = self.repositories[repository]
        address = f"{found.namespace}/data/{uuid4().hex}"
        checksum = hashlib.md5(data, usedforsecurity=False).hexdigest()
        entry = Entry(len(data), checksum, "application/octet-stream", (), address)
        self.file_of(entry).write_bytes(data)
        found.branches[branch].staged[path] = entry

    @web.middleware
    async def _faults(self, request: web.Request, handler: Any) -> web.StreamResponse:
        called = f"{request.method} {request.path}"
        self.requests.append(called)
        if self.hang_s:
            await asyncio.sleep(self.hang_s)
        if self._ends is not None:
            left, done = self._ends
            self._ends = left - 1, done
            if left <= 0:
                if done and left == 0:
                    await handler(request)
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)
        for number, (text, status, message) in enumerate(self.fail):
            if text in called:
                del self.fail[number]
                return _message(status, message)
        given = self.answers(called)
        if given is not None:
            return given
        response: web.StreamResponse = await handler(request)
        if self.lose_responses and request.method != "GET" and response.status < 300:
            self.lose_responses -= 1
            assert request.transport is not None
            request.transport.abort()
        return response

    async def _info(self, request: web.Request) -> web.Response:
        found = self._repository(request)
        fields = {"id": found.name, "creation_date": 1, "default_branch": "main"}
        return web.json_response(fields | {"storage_namespace": found.namespace})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        entry = self._objects(request).get(request.query["path"])
        if entry is None:
            return _message(404, "path does not exist: object not found")
        headers = {"Content-Type": entry.content_type}
        if not entry.address.startswith(self._repository(request).namespace):
            data = self.external(entry.address)
            if data is None:
                return _message(410, "resource is gone: no such key in storage")
            return web.Response(body=data[:1] if "Range" in request.headers else data, headers=headers)
        path = self.file_of(entry)
        return web.FileResponse(path, headers=headers) if path.exists() else _message(410, "no such key in storage")

    async def _stat(self, request: web.Request) -> web.Response:
        path = request.query["path"]
        entry = self._objects(request).get(path)
        return _message(404, "path does not exist") if entry is None else web.json_response(_stats(path, entry))

    async def _list(self, request: web.Request) -> web.Response:
        prefix, objects = request.query.get("prefix", ""), self._objects(request)
        paths = sorted(path for path in objects if path.startswith(prefix))
        return self._paged(request, [_stats(path, objects[path]) for path in paths], "path")

    async def _log(self, request: web.Request) -> web.Response:
        found = self._repository(request)
        if found.commit_of(request.match_info["ref"]) is None:
            raise _missing("ref not found")
        commits = found.log(request.match_info["ref"])
        amount, after = self._amount(request), request.query.get("after", "")
        ids = [commit.id for commit in commits]
        first = ids.index(after) + 1 if after else 0
        page = commits[first : first + amount]
        more = first + len(page) < len(commits)
        return _page_of([_commit_json(each) for each in page], more, page[-1].id if more else "")

    async def _list_branches(self, request: web.Request) -> web.Response:
        found = self._repository(request).branches
        rows = [{"id": name, "commit_id": branch.head} for name, branch in sorted(found.items())]
        return self._paged(
            request, [row for row in rows if row["id"].startswith(request.query.get("prefix", ""))], "id"
        )

    async def _create_branch(self, request: web.Request) -> web.Response:
        found, body = self._repository(request), await request.json()
        if body["name"] in found.branches:
            return _message(409, "branch already exists")
        if not body["name"].replace("-", "").replace("_", "").isalnum():
            return _message(400, "argument name: validation error")
        source = found.commit_of(body["source"])
        if source is None:
            raise _missing("source ref not found")
        found.branches[body["name"]] = Branch(source.id)
        return web.Response(text=source.id, status=201, content_type="text/html")

    async def _create_tag(self, request: web.Request) -> web.Response:
        found, body = self._repository(request), await request.json()
        if body["id"] in found.tags:
            return _message(409, "tag already exists")
        commit = found.commit_of(body["ref"])
        if commit is None:
            raise _missing("ref not found")
        found.tags[body["id"]] = commit.id
        return web.json_response({"id": body["id"], "commit_id": commit.id}, status=201)

    async def _branch(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["ref"], "commit_id": self._branch_of(request).head})

    async def _delete_branch(self, request: web.Request) -> web.Response:
        self._branch_of(request)
        del self._repository(request).branches[request.match_info["ref"]]
        return web.Response(status=204)

    async def _tag(self, request: web.Request) -> web.Response:
        commit = self._repository(request).tags.get(request.match_info["tag"])
        if commit is None:
            raise _missing("tag not found")
        return web.json_response({"id": request.match_info["tag"], "commit_id": commit})

    async def _delete_tag(self, request: web.Request) -> web.Response:
        if self._repository(request).tags.pop(request.match_info["tag"], None) is None:
            raise _missing("tag not found")
        return web.Response(status=204)

    async def _diff(self, request: web.Request) -> web.Response:
        self._branch_of(request)
        changes = self._repository(request).changes(request.match_info["ref"])
        rows = [{"path": path, "path_type": "object", "type": "changed"} for path in sorted(changes)]
        return self._paged(request, rows, "path")

    async def _upload(self, request: web.Request) -> web.Response:
        branch = self._writable(request)
        self._folder.mkdir(parents=True, exist_ok=True)
        target, digest = self._folder / uuid4().hex, hashlib.md5(usedforsecurity=False)
        with target.open("wb") as file:
            async for chunk in request.content.iter_chunked(1 << 16):
                digest.update(chunk)
                file.write(chunk)
        path = request.query["path"]
        if request.headers.get("If-None-Match") == "*" and path in (self._repository(request).at(_ref(request)) or {}):
            return _message(412, "path already exists")
        meta = {
            name.lower()[len(_META) :]: text for name, text in request.headers.items() if name.lower().startswith(_META)
        }
        address = f"{self._repository(request).namespace}/data/{target.name}"
        kind = request.headers.get("Content-Type", "application/octet-stream")
        entry = Entry(target.stat().st_size, digest.hexdigest(), kind, tuple(sorted(meta.items())), address)
        branch.staged[path] = entry
        return web.json_response(_stats(path, entry), status=201)

    async def _link(self, request: web.Request) -> web.Response:
        branch, body = self._writable(request), await request.json()
        address = body["staging"]["physical_address"]
        if address.startswith(f"{self._repository(request).namespace}/data/"):
            return _message(400, "physical address is not valid: it must be outside of the storage namespace")
        meta = tuple(sorted((body.get("user_metadata") or {}).items()))
        entry = Entry(body["size_bytes"], body["checksum"], body["content_type"], meta, address)
        branch.staged[request.query["path"]] = entry
        return web.json_response(_stats(request.query["path"], entry))

    async def _remove(self, request: web.Request) -> web.Response:
        branch, body = self._writable(request), await request.json()
        if len(body["paths"]) > _PAGE:
            return _message(400, "cannot delete more than 1000 objects")
        errors = []
        for path in body["paths"]:
            if path in (self._repository(request).at(_ref(request)) or {}):
                branch.staged[path] = None
            else:
                errors.append({"path": path, "status_code": 404, "message": "not found"})
        return web.json_response({"errors": errors})

    async def _commit(self, request: web.Request) -> web.Response:
        branch, found, body = self._writable(request), self._repository(request), await request.json()
        if branch.committing:
            return _message(500, "commit: update branch: predicate failed")
        if not branch.staged:
            found.empty_commits += 1
        branch.committing = True
        await asyncio.sleep(_COMMIT_S)
        branch.committing = False
        made = found.commit(_ref(request), body["message"], body.get("metadata") or {})
        return web.json_response(_commit_json(made), status=201) if made else _message(400, "commit: no changes")

    def _paged(self, request: web.Request, rows: list[dict[str, Any]], key: str) -> web.Response:
        amount, after = self._amount(request), request.query.get("after", "")
        rows = [row for row in rows if row[key] > after]
        page = rows[:amount]
        more = len(rows) > len(page)
        return _page_of(page, more, page[-1][key] if more else "")

    def _amount(self, request: web.Request) -> int:
        amount = int(request.query.get("amount", "100"))
        if amount > _PAGE:
            raise web.HTTPBadRequest(text=json.dumps({"message": "amount: must be at most 1000"}), content_type=_JSON)
        return min(amount, self.page)

    def _repository(self, request: web.Request) -> Repository:
        found = self.repositories.get(request.match_info["repository"])
        if found is None:
            raise _missing("repository not found")
        return found

    def _objects(self, request: web.Request) -> dict[str, Entry]:
        found = self._repository(request).at(_ref(request))
        if found is None:
            raise _missing("ref not found")
        return found

    def _branch_of(self, request: web.Request) -> Branch:
        found = self._repository(request).branches.get(_ref(request))
        if found is None:
            raise _missing("branch not found")
        return found

    def _writable(self, request: web.Request) -> Branch:
        branch = self._branch_of(request)
        if branch.protected:
            text = json.dumps({"message": "cannot write to protected branch"})
            raise web.HTTPForbidden(text=text, content_type=_JSON)
        return branch


_JSON = "application/json"


@web.middleware
async def _authenticated(request: web.Request, handler: Any) -> web.StreamResponse:
    wanted = base64.b64encode(f"{ACCESS_KEY}:{SECRET_KEY}".encode()).decode()
    if request.path.startswith("/api/") and request.headers.get("Authorization") != f"Basic {wanted}":
        return _message(401, "error authenticating request")
    response: web.StreamResponse = await handler(request)
    return response


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>lakeFS</title>", content_type="text/html")


def _ref(request: web.Request) -> str:
    return request.match_info["ref"]


def _stats(path: str, entry: Entry) -> dict[str, Any]:
    return {
        "path": path,
        "path_type": "object",
        "physical_address": entry.address,
        "checksum": entry.checksum,
        "size_bytes": entry.size,
        "mtime": entry.mtime,
        "metadata": dict(entry.metadata),
        "content_type": entry.content_type,
    }


def _commit_json(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "parents": [commit.parent] if commit.parent else [],
        "committer": "test",
        "message": commit.message,
        "creation_date": commit.created,
        "meta_range_id": "x",
        "metadata": commit.metadata,
    }


def _page_of(rows: list[dict[str, Any]], more: bool, following: str) -> web.Response:
    pagination = {"has_more": more, "next_offset": following, "results": len(rows), "max_per_page": _PAGE}
    return web.json_response({"pagination": pagination, "results": rows})


def _message(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _missing(text: str) -> web.HTTPNotFound:
    return web.HTTPNotFound(text=json.dumps({"message": text}), content_type=_JSON)
