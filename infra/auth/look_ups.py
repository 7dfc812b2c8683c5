"""Looks tokens up that are not in the list yet: many at once, seldom, and each once between two lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from infra.failure.error_texts import error_text
from infra.process.monotonic import monotonic_s

logger = logging.getLogger(__name__)

EVERY_S = 0.2
"""Two queries have at least so long between them, however many tokens are guessed."""
_MOST_AT_ONCE = 100
_MOST_REMEMBERED = 1_000
_LIMIT_S = 1.0
# After an error: each unknown token waits for its look-up, and a database that hangs would keep all of them.
_PAUSE_S = 2.0


class LookUps:
    """Joins look-ups by the ids of tokens into queries. Use it from one event loop."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[None]], what: str) -> None:
        """``read`` finds tokens by their ids and keeps those that are valid; ``what`` names them in logs."""
        self._read = read
        self._what = what
        self._rounds: dict[str, asyncio.Task[None]] = {}
        """The round of each id since the last list; it may have ended"""
        self._waiting: list[str] = []
        self._next: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._not_before_s = float("-inf")

    async def find(self, token_id: str) -> None:
        """Return when ``token_id`` was looked up, at most once until :meth:`forget`.

        Returns at once where too many wait, or were looked up: then the next list has it.
        """
        task = self._rounds.get(token_id)
        if task is None:
            if len(self._waiting) >= _MOST_AT_ONCE or len(self._rounds) >= _MOST_REMEMBERED:
                return
            if self._next is None:
                self._next = asyncio.create_task(self._round(), name=f"look-up of {self._what}")
            task = self._rounds[token_id] = self._next
            self._waiting.append(token_id)
        # A request that ends takes the look-up of others with it otherwise.
        await asyncio.shield(task)

    def forget(self) -> None:
        """Let tokens be looked up again: a new list was read."""
        self._rounds = {token_id: task for token_id, task in self._rounds.items() if not task.done()}

    async def _round(self) -> None:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._not_before_s - monotonic_s()))
            ids, self._waiting, self._next = self._waiting, [], None
            pause_s = EVERY_S
            try:
                async with asyncio.timeout(_LIMIT_S):
                    await self._read(ids)
            except Exception as error:  # noqa: BLE001 (whoever waits goes on with the tokens known so far)
                pause_s = _PAUSE_S
                logger.info("new %s are not looked up for %g s: %s", self._what, _PAUSE_S, error_text(error))
            self._not_before_s = monotonic_s() + pause_s
