"""Stands in for the Annotations service: content of media by token, the refresh of tokens, and posts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.http import serving


@dataclass
class Posted:
    """A post, and with what it was answered; None: it was not."""

    key: str
    token: str
    body: dict[str, Any]
    status: int | None = None


@dataclass
class Annotations:
    url: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    """Those that are valid"""
    refreshes: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By refresh token: the new token, and the new refresh token"""
    refresh_status: int = 200
    refresh_delay_s: float = 0.0
    fetch_statuses: list[int] = field(default_factory=list)
    """Answers that come first"""
    bearers: list[str | None] = field(default_factory=list)
    """Of requests for content"""
    refreshed: list[dict[str, str]] = field(default_factory=list)
    """The bodies of refreshes"""
    posts: list[Posted] = field(default_factory=list)
    """All that came, in order"""
    answer_post: Callable[[Posted], Awaitable[web.Response]] | None = None
    """None: 201, or 401 for a token that is not valid"""

    @property
    def taken(self) -> list[Posted]:
        """The posts that were answered with 2xx, as often as they came."""
        return [post for post in self.posts if post.status is not None and post.status < 300]

    async def _take(self, request: web.Request) -> web.Response:
        bearer = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        post = Posted(request.headers.get("Idempotency-Key", ""), bearer, await request.json())
        self.posts.append(post)
        if self.answer_post is not None:
            response = await self.answer_post(post)
        else:
            response = web.json_response({"id": f"a-{len(self.posts)}"}, status=201 if bearer in self.tokens else 401)
        post.status = response.status
        return response

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/annotations" and request.method == "POST":
            return await self._take(request)
        if request.path == "/auth/refresh" and request.method == "POST":
            body = await request.json()
            await asyncio.sleep(self.refresh_delay_s)
            self.refreshed.append(body)
            if self.refresh_status != 200 or body.get("refreshToken") not in self.refreshes:
                return web.Response(status=self.refresh_status if self.refresh_status != 200 else 401)
            token, again = self.refreshes[body["refreshToken"]]
            self.tokens.add(token)
            return web.json_response({"token": token} | ({"refreshToken": again} if again else {}))
        media_id = request.match_info["path"].removeprefix("media/").removesuffix("/content")
        self.bearers.append(request.headers.get("Authorization"))
        if self.fetch_statuses:
            return web.Response(status=self.fetch_statuses.pop(0), headers={"Location": "http://127.0.0.1:1/"})
        if (request.headers.get("Authorization") or "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(status=401)
        if media_id not in self.content:
            return web.Response(status=404)
        return web.Response(body=self.content[media_id])


@asynccontextmanager
async def annotations_service() -> AsyncIterator[Annotations]:
    """Run one."""
    found = Annotations()
    async with serving(found.handle) as url:
        found.url = url
        yield found
