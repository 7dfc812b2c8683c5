"""Runs HTTP servers in threads of the test process.

In threads, so that a test's own loop may block, and processes of the test can use them too.
"""

from __future__ import annotations

from aiohttp import web

from standgale.testing.gate import LoopThread


class AppServer(LoopThread):
    """Serves an aiohttp application on a loopback port."""

    def __init__(self, app: web.Application) -> None:
        super().__init__()
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self.port = 0

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    async def opened(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def closed(self) -> None:
        await self._runner.cleanup()
