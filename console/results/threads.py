"""Runs what takes long for large results in threads of its own: the event loop and other threads' work go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_AT_ONCE = 2


class ResultThreads:
    """Has two threads; what does not fit waits, in the order in which it came."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, "results")

    async def run(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what ``function`` returns for these arguments, and raise what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))
