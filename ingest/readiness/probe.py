"""Probes a service behind the gateway while no frames use it, so that readiness is correct without frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

from infra.process.health import HealthPart
from ingest.readiness.outcomes import Readiness

_FAILING_INTERVAL_S = 2.0


class DependencyProbe:
    """Calls ``check`` while the part fails or had no work for some time; it is a component.

    ``check`` does a small amount of real work, and raises while that fails. It is not called again before it has
    ended, because each call to a disk that hangs would block one more thread.
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
        """Probe when the readiness needs it, until ``stop`` is set; errors of ``check`` do not end it."""
        # Reasons come from the readiness, as those of real work do; of the part only signs of life are given here.
        checking: asyncio.Task[object] | None = None
        began = 0.0
        try:
            while not stop.is_set():
                health.beat()
                if checking is None and self._readiness.wants_probe():
                    began = time.monotonic()
                    checking = asyncio.create_task(self._check(), name=f"probe-{self.name}")
                if checking is not None and await self._wait_until_ended(checking, began):
                    self._report_result(checking, began)
                    checking = None
                await health.pause(self._pause_s(), stop)
        finally:
            if checking is not None:
                checking.cancel()
                await asyncio.wait({checking}, timeout=self._timeout_s)

    async def _wait_until_ended(self, checking: asyncio.Task[object], began: float) -> bool:
        done, _ = await asyncio.wait({checking}, timeout=self._timeout_s)
        if not done:
            late = TimeoutError(f"a probe did not end within {self._timeout_s:g} s")
            self._readiness.probe_failed(late, time.monotonic() - began)
        return bool(done)

    def _report_result(self, checked: asyncio.Task[object], began: float) -> None:
        error = None if checked.cancelled() else checked.exception()
        if isinstance(error, Exception):
            self._readiness.probe_failed(error, time.monotonic() - began)
        elif error is not None:
            raise error
        else:
            self._readiness.probe_passed(time.monotonic() - began)

    def _pause_s(self) -> float:
        return min(_FAILING_INTERVAL_S, self._interval_s) if self._readiness.failing else self._interval_s
