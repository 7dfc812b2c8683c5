"""Shares the event loop between clients whose bodies are received at the same time."""

from __future__ import annotations

import asyncio
from collections import deque

# While several clients send, one may read a piece (at most 256 kB, as the event loop reads) in this time on average.
_PIECE_S = 0.002
_FREE_PIECES = 32
_ALONE_AFTER_S = 1.0
_MOST_PACED = 10_000


class Turns:
    """Lets each client read one piece of a body in each round of the event loop.

    A client that sends many large bodies at the same time would otherwise fill each round with its pieces, and every
    step of another client's upload would wait for all of them. While several clients send, each also has a rate (some
    130 MB/s), so that none fills all rounds; a client that is alone has none.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._due: dict[str, float] = {}
        self._newest = ""
        self._alone_since = 0.0

    async def wait(self, client: str) -> None:
        """Wait until ``client`` may read its next piece."""
        loop = asyncio.get_running_loop()
        delay_s = self._delay_s(client, loop.time())
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        waiting = self._waiting.get(client)
        if waiting is None:
            self._waiting[client] = deque()
            loop.call_soon(self._next, client)
            return
        turn = loop.create_future()
        waiting.append(turn)
        await turn

    def _delay_s(self, client: str, now: float) -> float:
        """Return how long the client must wait because of its rate; a burst of pieces is free."""
        if client != self._newest:
            self._newest, self._alone_since = client, now
        elif now - self._alone_since > _ALONE_AFTER_S:
            self._due.clear()
            return 0.0
        if len(self._due) > _MOST_PACED:
            self._due.clear()
        due = max(self._due.get(client, 0.0), now - _FREE_PIECES * _PIECE_S) + _PIECE_S
        self._due[client] = due
        return due - now

    def _next(self, client: str) -> None:
        waiting = self._waiting[client]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next, client)
                return
        del self._waiting[client]
