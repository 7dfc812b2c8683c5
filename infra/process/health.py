"""What is well and what is not: parts report, probes ask (`/health/live`, `/health/ready`), Prometheus scrapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.process.metrics import READY

STARTING = "starting"


@dataclass(frozen=True, slots=True)
class PartReport:
    """One part now: ``reason`` says why it is not ready, ``fault`` why it is not live; None means all is well.

    ``note``: what else there is to say about it.
    """

    reason: str | None
    fault: str | None
    note: str | None = None

    @property
    def ready(self) -> bool:
        """It is live and can do its work."""
        return self.fault is None and self.reason is None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The process now: live while no part is dead, ready while all parts are."""

    parts: Mapping[str, PartReport]

    @property
    def live(self) -> bool:
        """No part is dead."""
        return all(part.fault is None for part in self.parts.values())

    @property
    def ready(self) -> bool:
        """All parts are live and ready."""
        return all(part.ready for part in self.parts.values())


class HealthPart:
    """One part of a process, reported on by whoever runs it. Not ready ("starting") until it says so."""

    def __init__(self, name: str, *, silence_s: float, clock: Callable[[], float]) -> None:
        self.name = name
        self._silence_s = silence_s
        self._clock = clock
        self._reason: str | None = STARTING
        self._notes: dict[str, str] = {}
        self._waiting: dict[str, str] = {}
        self._hanging: dict[str, str] = {}
        self._dead: str | None = None
        self._last_sign: float | None = None
        # Asked at each scrape: a part that hangs can't report that it does.
        READY.labels(name).set_function(lambda: 1.0 if self.report().ready else 0.0)

    @property
    def silence_s(self) -> float:
        """For how long it may give no sign of life."""
        return self._silence_s

    @property
    def reason(self) -> str | None:
        """Why it is not ready, all reasons one after the other; None when it is."""
        reasons = list(self._waiting.values())
        # What it waits for says more than that it is starting.
        if self._reason is not None and not (reasons and self._reason == STARTING):
            reasons.append(self._reason)
        return "; ".join(reasons) or None

    def set_ready(self) -> None:
        """It can do its work."""
        self._reason = None

    def set_not_ready(self, reason: str) -> None:
        """It can't do its work just now, because of ``reason`` (no secrets: probes show it)."""
        self._reason = reason

    def set_waiting(self, what: str, reason: str) -> None:
        """``what`` it does ("fetching frames") has to wait, because of ``reason``; several things may, side by side."""
        self._waiting[what] = reason

    def set_hanging(self, what: str, reason: str) -> None:
        """``what`` it does has not come back for too long, and only a restart may help: neither ready nor live."""
        self._hanging[what] = reason
        self.set_waiting(what, reason)

    def clear_waiting(self, what: str) -> None:
        """``what`` it does works again; the part is what it would be had that never waited."""
        self._waiting.pop(what, None)
        self._hanging.pop(what, None)

    def set_note(self, what: str, text: str | None) -> None:
        """Show ``text`` about ``what`` beside "ready" (no secrets), until None; it changes nothing about being ready.

        Several notes are shown side by side, one per ``what`` (a word or two, bounded).
        """
        if text is None:
            self._notes.pop(what, None)
        else:
            self._notes[what] = text

    def beat(self) -> None:
        """It gives a sign of life. From the first one on, silence for longer than ``silence_s`` means that it hangs."""
        self._last_sign = self._clock()

    def beat_if_expected(self) -> None:
        """A sign of life, if signs are expected of it: for helpers that don't know whether their caller gives any."""
        if self._last_sign is not None:
            self.beat()

    def set_dead(self, reason: str) -> None:
        """It ended though it should not have; the process must be restarted."""
        self._dead = reason
        self._reason = reason

    def set_done(self) -> None:
        """It ended as it should: nothing is expected of it any more."""
        self._last_sign = None
        self._waiting.clear()
        self._hanging.clear()
        self._reason = "stopped"

    def report(self) -> PartReport:
        """What is so now."""
        fault = self._dead or next(iter(self._hanging.values()), None)
        if fault is None and self._last_sign is not None:
            silent = self._clock() - self._last_sign
            if silent > self._silence_s:
                fault = f"no sign of life for {silent:.0f} s"
        return PartReport(self.reason, fault, "; ".join(self._notes.values()) or None)


class Health:
    """All parts of one process."""

    def __init__(self, *, silence_s: float = 120.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._parts: dict[str, HealthPart] = {}

    def part(self, name: str) -> HealthPart:
        """The part called ``name``; asking again gives the same one."""
        if name not in self._parts:
            self._parts[name] = HealthPart(name, silence_s=self._silence_s, clock=self._clock)
        return self._parts[name]

    def report(self) -> HealthReport:
        """What is so now, of every part."""
        return HealthReport({name: part.report() for name, part in self._parts.items()})


def health_app(health: Health) -> Starlette:
    """The ASGI app for probes and Prometheus. That it answers at all shows that the event loop turns."""

    async def live(_: Request) -> JSONResponse:
        report = health.report()
        parts = {name: part.fault or "live" for name, part in report.parts.items()}
        return _response(report.live, "live", parts)

    async def ready(_: Request) -> JSONResponse:
        report = health.report()
        parts = {name: _part_text(part) for name, part in report.parts.items()}
        return _response(report.ready, "ready", parts)

    async def scrape(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    routes = [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", scrape)]
    return Starlette(routes=routes)


def _part_text(part: PartReport) -> str:
    trouble = part.fault or part.reason
    if trouble is None:
        return f"ready: {part.note}" if part.note else "ready"
    return f"{trouble} (note: {part.note})" if part.note else trouble


def _response(well: bool, word: str, parts: Mapping[str, str]) -> JSONResponse:
    status = word if well else f"not {word}"
    return JSONResponse({"status": status, "parts": dict(parts)}, status_code=200 if well else 503)
