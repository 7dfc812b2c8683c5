"""Keeps the health of each part of a process, and serves `/health/live`, `/health/ready` and `/metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.process.metrics import READY
from infra.telemetry.metrics_page import MetricsPage
from infra.waiting import wait_until_set

STARTING = "starting"

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class PartReport:
    """Describes one part as it is now."""

    reason: str | None
    """Why it is not ready; None when it is"""
    failure: str | None
    """Why it is not live; None when it is"""
    note: str | None = None
    """Other information; it changes nothing about being ready"""

    @property
    def ready(self) -> bool:
        """Whether it is live and can do its work."""
        return self.failure is None and self.reason is None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Describes the process as it is now."""

    parts: Mapping[str, PartReport]

    @property
    def live(self) -> bool:
        """Whether no part is dead."""
        return all(part.failure is None for part in self.parts.values())

    @property
    def ready(self) -> bool:
        """Whether all parts are live and ready."""
        return all(part.ready for part in self.parts.values())


class HealthPart:
    """Collects the reports of one part of a process; it is not ready ("starting") until ``set_ready`` is called."""

    def __init__(self, name: str, *, silence_s: float, clock: Callable[[], float], is_exported: bool = True) -> None:
        """``is_exported``: whether it is a part of the process, with a metric; there may be any number of others."""
        self.name = name
        self._silence_s = silence_s
        self._clock = clock
        self._reason: str | None = STARTING
        self._notes: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._hanging: dict[str, str] = {}
        self._dead: str | None = None
        self._last_sign: float | None = None
        # Computed at each scrape, because a part that hangs cannot report it.
        if is_exported:
            READY.labels(name).set_function(lambda: 1.0 if self.report().ready else 0.0)

    @property
    def silence_s(self) -> float:
        """How long the part may be silent before it counts as hanging."""
        return self._silence_s

    @property
    def _sign_interval_s(self) -> float:
        return max(self._silence_s / 3, 0.01)

    @property
    def reason(self) -> str | None:
        """All reasons why it is not ready, in one text; None when it is ready."""
        reasons = list(self._waiting.values())
        # The reason of a wait is more useful than "starting".
        if self._reason is not None and not (reasons and self._reason == STARTING):
            reasons.append(self._reason)
        return "; ".join(reasons) or None

    def set_ready(self) -> None:
        """Report that the part can do its work."""
        self._reason = None

    def set_not_ready(self, reason: str) -> None:
        """Report that the part cannot do its work, because of ``reason`` (without secrets, because probes show it)."""
        self._reason = reason

    def set_waiting(self, what: str, reason: str) -> None:
        """Report that ``what`` ("fetching frames") waits because of ``reason``; several may wait at a time."""
        self._waiting[what] = reason

    def set_hanging(self, what: str, reason: str) -> None:
        """Report that ``what`` has not returned for too long, so that a restart is needed: neither ready nor live."""
        self._hanging[what] = reason
        self.set_waiting(what, reason)

    def clear_waiting(self, what: str) -> None:
        """Report that ``what`` works again; this removes its reason."""
        self._waiting.pop(what, None)
        self._hanging.pop(what, None)

    def set_note(self, what: str, text: str | None) -> None:
        """Show ``text`` about ``what`` next to "ready" (without secrets), or remove it when ``text`` is None.

        Each ``what`` (one or two words) has its own note; a note changes nothing about being ready.
        """
        if text is None:
            self._notes.pop(what, None)
        else:
            self._notes[what] = text

    def beat(self) -> None:
        """Give a sign of life; after the first one, silence for longer than ``silence_s`` means that the part hangs."""
        self._last_sign = self._clock()

    def beat_if_expected(self) -> None:
        """Give a sign of life if the part gave one before; for helpers that do not know whether their caller does."""
        if self._last_sign is not None:
            self.beat()

    async def pause(self, seconds: float, stop: asyncio.Event) -> None:
        """Wait until ``stop`` is set, at most ``seconds``, with signs of life, as ``silence_s`` may be less."""
        until = time.monotonic() + seconds
        while not stop.is_set() and (left := until - time.monotonic()) > 0:
            self.beat()
            await wait_until_set(stop, min(left, self._sign_interval_s))
        self.beat()

    async def wait_for(self, task: asyncio.Future[ResultT], seconds: float) -> bool:
        """Wait until ``task`` is done, at most ``seconds``, with signs of life; return whether it is done."""
        until = time.monotonic() + seconds
        while not task.done() and (left := until - time.monotonic()) > 0:
            self.beat()
            await asyncio.wait({task}, timeout=min(left, self._sign_interval_s))
        self.beat()
        return task.done()

    def set_dead(self, reason: str) -> None:
        """Report that the part ended unexpectedly, so that the process must be restarted."""
        self._dead = reason
        self._reason = reason

    def set_done(self) -> None:
        """Report that the part ended as intended; no more signs of life are expected."""
        self._last_sign = None
        self._waiting.clear()
        self._hanging.clear()
        self._reason = "stopped"

    def report(self) -> PartReport:
        """Return the part's present state."""
        failure = self._dead or next(iter(self._hanging.values()), None)
        if failure is None and self._last_sign is not None:
            silent = self._clock() - self._last_sign
            if silent > self._silence_s:
                failure = f"no sign of life for {silent:.0f} s"
        return PartReport(self.reason, failure, "; ".join(self._notes.values()) or None)


class Health:
    """Holds all parts of one process."""

    def __init__(self, *, silence_s: float = 120.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._parts: dict[str, HealthPart] = {}

    def part(self, name: str) -> HealthPart:
        """Return the part called ``name``; it is made at the first call."""
        if name not in self._parts:
            self._parts[name] = HealthPart(name, silence_s=self._silence_s, clock=self._clock)
        return self._parts[name]

    def report(self) -> HealthReport:
        """Return the present state of every part."""
        return HealthReport({name: part.report() for name, part in self._parts.items()})


def health_app(health: Health) -> Starlette:
    """Return the ASGI app for probes and Prometheus; a response also shows that the event loop runs."""

    page = MetricsPage()

    async def live(_: Request) -> JSONResponse:
        report = health.report()
        parts = {name: part.failure or "live" for name, part in report.parts.items()}
        return _response(report.live, "live", parts)

    async def ready(_: Request) -> JSONResponse:
        report = health.report()
        parts = {name: _part_text(part) for name, part in report.parts.items()}
        return _response(report.ready, "ready", parts)

    async def scrape(_: Request) -> Response:
        return Response(page.render(), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", scrape)]
    return Starlette(routes=routes)


def _part_text(part: PartReport) -> str:
    reason = part.failure or part.reason
    if reason is None:
        return f"ready: {part.note}" if part.note else "ready"
    return f"{reason} (note: {part.note})" if part.note else reason


def _response(good: bool, word: str, parts: Mapping[str, str]) -> JSONResponse:
    status = word if good else f"not {word}"
    return JSONResponse({"status": status, "parts": dict(parts)}, status_code=200 if good else 503)
