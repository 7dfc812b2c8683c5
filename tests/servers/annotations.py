"""Stands in for the Annotations service: content of media by bearer token, and the refresh of tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers.http import serving


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

    async def handle(self, request: web.Request) -> web.StreamResponse:
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
