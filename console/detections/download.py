"""Makes one response of many detections, page by page: one page of rows is in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from console.detections.query import Place
from console.detections.records import DetectionRecords, Selection, place_of
from console.detections.rows import detection_of
from console.detections.writers import Writer
from console.results.threads import ResultThreads
from infra.http_api.errors.api_errors import UnauthorizedError

PAGE_ROWS = 1_000
"""Rows that are read at a time, with a connection that is given back after them."""


class Download:
    """Reads pages and writes them; nothing is kept open between two of them, however slowly a client reads."""

    def __init__(
        self, records: DetectionRecords, threads: ResultThreads, writer: Writer, chosen: Selection, limit: int
    ) -> None:
        self._records = records
        self._threads = threads
        self._writer = writer
        self._chosen = chosen
        self._left = limit
        self._page: Sequence[Any] = ()
        self._has_more = False

    async def read_first(self, after: Place | None) -> None:
        """Read the first page. Raises the errors of the database."""
        await self._read(after)

    async def pieces(self, is_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield the response. Raises the errors of the database, and UnauthorizedError when ``is_allowed`` ends.

        An error cuts the response off: its reader sees that it is not complete.
        """
        run, last = self._threads.run, None
        yield await run(self._writer.begin)
        while True:
            if self._page:
                yield await run(self._written, self._page)
                last = place_of(self._page[-1])
            if not self._has_more:
                break
            if not is_allowed():
                raise UnauthorizedError("the API key was revoked, or has expired, during the response")
            await self._read(last)
        # With as many as were asked for there may be more.
        yield await run(self._writer.end, last.as_text() if last is not None and not self._left else None)

    async def _read(self, after: Place | None) -> None:
        wanted = min(self._left, PAGE_ROWS)
        self._page = await self._records.page(self._chosen, after, wanted)
        self._left -= len(self._page)
        self._has_more = len(self._page) == wanted and self._left > 0

    def _written(self, rows: Sequence[Any]) -> bytes:
        return self._writer.rows([detection_of(row) for row in rows])
