"""Decides by the outcome of real work, or of probes, whether the services behind the gateway are ready.

A failed put or publish makes its part not ready at once. The part becomes ready again when real work of the same
partition succeeds, or without such work after ``quiet_s`` without a failure and a successful probe. In that second case
the partition is unconfirmed: when its next real work fails, the part is not ready again and the quiet time doubles. So
a partition whose failures no probe can find does not make the gateway ready and not ready all the time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from infra.errors import SettingsError, TransientError
from infra.failure.error_texts import error_code, error_text
from infra.process.health import Health, HealthPart
from ingest.settings import GatewaySettings
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_LONGEST_QUIET_S = 300.0
PROBES = -1
"""The number for probes where work has its partition; partitions count from 0."""
_NO_RESPONSE = "no response in time"


@dataclass(slots=True)
class _FailedPartition:
    """Holds the last failure of a partition."""

    code: str
    failed_at: float
    quiet_s: float
    """How long no further failure must happen before a probe can make it unconfirmed"""
    unconfirmed: bool = False
    """Whether a probe succeeded, but no real work since"""


class _Watch:
    """Is one block of real work; a class, because each frame has two of them."""

    __slots__ = ("_partition", "_readiness")

    def __init__(self, readiness: Readiness, partition: int) -> None:
        self._readiness = readiness
        self._partition = partition

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            self._readiness.work_succeeded(self._partition)
        elif isinstance(error, Exception):
            self._readiness.work_failed(self._partition, error)


class Readiness:
    """Makes one part ready or not ready; only the event loop may call it."""

    def __init__(
        self,
        part: HealthPart,
        *,
        quiet_s: float = 10.0,
        idle_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """After ``idle_s`` without real work a probe is needed even if nothing failed."""
        self._part = part
        self._quiet_s = quiet_s
        self._idle_s = idle_s
        self._clock = clock
        self._failed: dict[int, _FailedPartition] = {}
        self._logged: set[str] = set()
        self._worked_at: float | None = None
        self._began = False

    def watch(self, partition: int = 0) -> _Watch:
        """Return a context manager that counts the outcome of its block as that of real work on ``partition``."""
        return _Watch(self, partition)

    def work_failed(self, partition: int, error: Exception) -> None:
        """Count real work that has failed; an error that the record causes says nothing about the part."""
        if isinstance(error, TransientError | SettingsError) or not isinstance(error, StandgaleError):
            self._fail(partition, error)

    def work_succeeded(self, partition: int) -> None:
        """Count real work that has succeeded."""
        self._worked_at = self._clock()
        # Usually nothing failed before, so nothing has changed, and a frame needs no more work here.
        if self._failed or self._logged or not self._began:
            self._failed.pop(PROBES, None)
            self._failed.pop(partition, None)
            self._report()

    @property
    def failing(self) -> bool:
        """Whether the part is not ready."""
        return not self._began or any(not failure.unconfirmed for failure in self._failed.values())

    def wants_probe(self) -> bool:
        """Whether a probe is needed: after a failure, or a long time without work."""
        idle = self._worked_at is None or self._clock() - self._worked_at >= self._idle_s
        return idle or self.failing

    def probe_failed(self, error: Exception, began_s_ago: float) -> None:
        """Count a failed probe that began ``began_s_ago``, unless real work succeeded since then."""
        if self._worked_at is None or self._clock() - self._worked_at >= began_s_ago:
            self._fail(PROBES, error)

    def probe_passed(self, began_s_ago: float) -> None:
        """Count a successful probe that began ``began_s_ago``; partitions without new failures become unconfirmed."""
        self._failed.pop(PROBES, None)
        now = self._clock()
        for failure in self._failed.values():
            quiet_s = now - failure.failed_at
            if not failure.unconfirmed and quiet_s >= max(failure.quiet_s, began_s_ago):
                failure.unconfirmed = True
                logger.info("%s: the probe succeeds and nothing failed for %.0f s", self._part.name, quiet_s)
        self._report()

    def _fail(self, partition: int, error: Exception) -> None:
        code = _NO_RESPONSE if isinstance(error, TimeoutError) else error_code(error)
        former = self._failed.get(partition)
        quiet_s = former.quiet_s if former is not None else self._quiet_s
        if former is not None and former.unconfirmed:
            quiet_s = min(2 * quiet_s, _LONGEST_QUIET_S)
        self._failed[partition] = _FailedPartition(code, self._clock(), quiet_s)
        self._log(code, error)
        self._report()

    def _log(self, code: str, error: Exception) -> None:
        """Log each code once per outage; with many devices an outage would fill the disk with logs."""
        if code in self._logged:
            return
        self._logged.add(code)
        if isinstance(error, StandgaleError | OSError):
            logger.warning("%s does not work: %s", self._part.name, error_text(error), extra={"code": code})
        else:
            logger.error("%s failed unexpectedly: %s", self._part.name, error_text(error), exc_info=error)

    def _report(self) -> None:
        codes = dict.fromkeys(failure.code for failure in self._failed.values() if not failure.unconfirmed)
        if codes:
            # The stable codes only, because readers of the health port need not know hosts and folders.
            self._part.set_not_ready(", ".join(codes))
            return
        self._began = True
        self._part.set_ready()
        if self._logged and not self._failed:
            logger.info("%s works again", self._part.name)
            self._logged.clear()


@dataclass(frozen=True, slots=True)
class GatewayReadiness:
    """Holds the readiness of the services that a frame needs."""

    store: Readiness
    broker: Readiness

    @classmethod
    def of(cls, health: Health, settings: GatewaySettings) -> GatewayReadiness:
        """Return the readiness of the parts "store" and "broker" of ``health``."""
        store, broker = (
            Readiness(health.part(name), quiet_s=settings.recovery_s, idle_s=settings.probe_interval_s)
            for name in ("store", "broker")
        )
        return cls(store, broker)

    @classmethod
    def without_probes(cls) -> GatewayReadiness:
        """Return the readiness for a gateway without health reports."""
        return cls.of(Health(), GatewaySettings())
