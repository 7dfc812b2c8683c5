"""Tries a part behind the gateway while no frame does, so that readiness is true when none comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress

from infra.process.health import HealthPart
from ingest.gateway.readiness.outcomes import Readiness

_FAILING_INTERVAL_S = 2.0


class DependencyProbe:
    """A component that calls ``check`` while the part fails or has had no work for a while.

    ``check`` does real work of the part's kind, and raises while that fails. One that does not answer is not asked a
    second time before it has ended: a disk that hangs must not collect threads.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[], Coroutine[None, None, object]],
        readiness: Readiness,
        *,
        interval_s: float = 10.0,
        timeout_s: float = 5.0,
    ) -> None:
        self.name = name
        self._check = check
        self._readiness = readiness
        self._interval_s = interval_s
        self._timeout_s = timeout_s

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Probe when there is something to find out, until ``stop`` is set. Nothing that ``check`` raises ends it."""
        del health  # The part is reported on by real work, too: both tell the readiness, which tells the part.
        checking: asyncio.Task[object] | None = None
        began = 0.0
        try:
            while not stop.is_set():
                if checking is None and self._readiness.wants_probe():
                    began = time.monotonic()
                    checking = asyncio.create_task(self._check(), name=f"probe-{self.name}")
                if checking is not None and await self._ended(checking, began):
                    self._judge(checking, began)
                    checking = None
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._pause_s())
        finally:
            if checking is not None:
                checking.cancel()
                await asyncio.wait({checking}, timeout=self._timeout_s)

    async def _ended(self, checking: asyncio.Task[object], began: float) -> bool:
        done, _ = await asyncio.wait({checking}, timeout=self._timeout_s)
        if not done:
            late = TimeoutError(f"no answer to a probe within {self._timeout_s:g} s")
            self._readiness.probe_failed(late, time.monotonic() - began)
        return bool(done)

    def _judge(self, checked: asyncio.Task[object], began: float) -> None:
        error = None if checked.cancelled() else checked.exception()
        if isinstance(error, Exception):
            self._readiness.probe_failed(error, time.monotonic() - began)
        elif error is not None:
            raise error
        else:
            self._readiness.probe_passed(time.monotonic() - began)

    def _pause_s(self) -> float:
        return min(_FAILING_INTERVAL_S, self._interval_s) if self._readiness.failing else self._interval_s
