"""Decides by the outcome of real work whether the parts behind the gateway are ready; probes only fill the gaps.

A put or a publish that fails makes its part not ready at once. It becomes ready again when real work of the same lane
(the partition of the device) succeeds, or, when none comes, after ``quiet_s`` without a further failure and a probe
that passed. That second way is a trial: when the next real work of the lane fails, the part is not ready again and the
quiet time doubles. So a lane that no probe can judge does not switch the gateway on and off all the time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from infra.errors import SettingsError, TransientError
from infra.failure.error_texts import error_code, error_text
from infra.process.health import Health, HealthPart
from ingest.settings import GatewaySettings
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_LONGEST_QUIET_S = 300.0
_PROBES = -1
"""The lane of the probes; partitions count from 0."""
_NO_ANSWER = "no answer in time"


@dataclass(slots=True)
class _FailedPartition:
    """A lane whose last work failed. ``on_trial``: it may be well again, but no real work has shown it."""

    code: str
    failed_at: float
    quiet_s: float
    unconfirmed: bool = False


class Readiness:
    """Keeps one part ready or not ready. Only the event loop may call it."""

    def __init__(
        self,
        part: HealthPart,
        *,
        quiet_s: float = 10.0,
        idle_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``idle_s``: after so long without real work a probe is wanted though nothing failed."""
        self._part = part
        self._quiet_s = quiet_s
        self._idle_s = idle_s
        self._clock = clock
        self._failed: dict[int, _FailedPartition] = {}
        self._logged: set[str] = set()
        self._worked_at: float | None = None
        self._began = False

    @contextmanager
    def watch(self, lane: int = 0) -> Iterator[None]:
        """Count the outcome of the block as that of real work on ``lane``."""
        try:
            yield
        except Exception as error:
            # A record's own fault says nothing about the part.
            if isinstance(error, TransientError | SettingsError) or not isinstance(error, StandgaleError):
                self._fail(lane, error)
            raise
        self._worked_at = self._clock()
        # As a rule all was well before, too. Then nothing has changed, and each frame is spared the rest.
        if self._failed or self._logged or not self._began:
            self._failed.pop(_PROBES, None)
            self._failed.pop(lane, None)
            self._report()

    @property
    def failing(self) -> bool:
        """Whether the part is not ready."""
        return not self._began or any(not trouble.unconfirmed for trouble in self._failed.values())

    def wants_probe(self) -> bool:
        """Whether a probe has something to find out: a failure, or a long time without work."""
        idle = self._worked_at is None or self._clock() - self._worked_at >= self._idle_s
        return idle or self.failing

    def probe_failed(self, error: Exception, began_s_ago: float) -> None:
        """A probe that began ``began_s_ago`` failed; real work that succeeded since then says more."""
        if self._worked_at is None or self._clock() - self._worked_at >= began_s_ago:
            self._fail(_PROBES, error)

    def probe_passed(self, began_s_ago: float) -> None:
        """A probe that began ``began_s_ago`` found the part well: lanes that were quiet for long enough get a trial."""
        self._failed.pop(_PROBES, None)
        now = self._clock()
        for trouble in self._failed.values():
            quiet_s = now - trouble.failed_at
            if not trouble.unconfirmed and quiet_s >= max(trouble.quiet_s, began_s_ago):
                trouble.unconfirmed = True
                logger.info("%s: the probe passes and nothing failed for %.0f s", self._part.name, quiet_s)
        self._report()

    def _fail(self, lane: int, error: Exception) -> None:
        code = _NO_ANSWER if isinstance(error, TimeoutError) else error_code(error)
        former = self._failed.get(lane)
        quiet_s = former.quiet_s if former is not None else self._quiet_s
        if former is not None and former.unconfirmed:
            quiet_s = min(2 * quiet_s, _LONGEST_QUIET_S)
        self._failed[lane] = _FailedPartition(code, self._clock(), quiet_s)
        self._log(code, error)
        self._report()

    def _log(self, code: str, error: Exception) -> None:
        """Each code once per outage: with many devices an outage would fill the disk with logs."""
        if code in self._logged:
            return
        self._logged.add(code)
        if isinstance(error, StandgaleError | OSError):
            logger.warning("%s does not work: %s", self._part.name, error_text(error), extra={"code": code})
        else:
            logger.error("%s failed unexpectedly: %s", self._part.name, error_text(error), exc_info=error)

    def _report(self) -> None:
        codes = dict.fromkeys(trouble.code for trouble in self._failed.values() if not trouble.unconfirmed)
        if codes:
            # The stable codes only: who may see the health port need not learn hosts and folders from it.
            self._part.set_not_ready(", ".join(codes))
            return
        self._began = True
        self._part.set_ready()
        if self._logged and not self._failed:
            logger.info("%s works again", self._part.name)
            self._logged.clear()


@dataclass(frozen=True, slots=True)
class GatewayReadiness:
    """Of the parts that a frame needs."""

    store: Readiness
    broker: Readiness

    @classmethod
    def of(cls, health: Health, settings: GatewaySettings) -> GatewayReadiness:
        """As parts "store" and "broker" of ``health``."""
        store, broker = (
            Readiness(health.part(name), quiet_s=settings.recovery_s, idle_s=settings.probe_interval_s)
            for name in ("store", "broker")
        )
        return cls(store, broker)

    @classmethod
    def without_probes(cls) -> GatewayReadiness:
        """For a gateway without health reports."""
        return cls.of(Health(), GatewaySettings())
