"""Gives a batch on which one engine fails to a second engine, which is loaded when it is first needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from detectors.engines.port import Engine
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.metrics import ENGINE_FAILURES

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 5
"""After so many batches in a row on which only the first engine failed, the second runs all further ones."""


class FallbackEngine:
    """Runs batches on one engine, and on a second one where that fails. See :class:`detectors.engines.port.Engine`.

    Batch size and number of callers stay those of the first engine.
    """

    def __init__(self, first: Engine, load_next: Callable[[], Engine], why: str | None = None) -> None:
        """``load_next`` raises ModelLoadError when there is no second engine; ``why``: the reason for ``first``."""
        self._serving = first
        self._other: Engine | None = None
        self._load_next = load_next
        self._no_other: ModelLoadError | None = None
        self._why = why
        self._failed_in_a_row = 0
        self._lock = threading.Lock()
        self.batch_size = first.batch_size
        self.parallel = first.parallel

    @property
    def name(self) -> str:
        """The engine that runs batches now."""
        return self._serving.name

    @property
    def reason(self) -> str:
        """See :class:`detectors.engines.port.Engine`."""
        reason = self._serving.reason
        if self._why is None:
            return reason
        # What was measured begins with the way that the engine repeats.
        first, _, rest = reason.partition("; ")
        return f"{self._why}; {rest if rest and self._why.startswith(f'{first}:') else reason}"

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`. Raises InferenceError when both engines fail on ``tiles``."""
        engine = self._serving
        try:
            outputs = engine.run(tiles)
        except InferenceError as error:
            return self._run_on_other(engine, tiles, error)
        if self._failed_in_a_row:
            with self._lock:
                self._failed_in_a_row = 0
        return outputs

    def _run_on_other(self, failed: Engine, tiles: ImageArray, error: InferenceError) -> Outputs:
        ENGINE_FAILURES.labels(failed.name).inc()
        other = self._other_than(failed, error)
        logger.warning("engine %s failed on %d tiles, %s runs them: %s", failed.name, len(tiles), other.name, error)
        try:
            outputs = other.run(tiles)
        except InferenceError as second:
            ENGINE_FAILURES.labels(other.name).inc()
            raise InferenceError(f"{error}; engine {other.name} failed after it: {second}") from second
        with self._lock:
            self._count(failed, other, error)
        return outputs

    def _other_than(self, failed: Engine, error: InferenceError) -> Engine:
        """Return the engine that is not ``failed``, loaded now if need be. Raises InferenceError when there is none."""
        with self._lock:
            if self._no_other is not None:
                raise InferenceError(f"{error}; no other engine can take over: {self._no_other}") from error
            if self._other is None:
                try:
                    self._other = self._load_next()
                except ModelLoadError as why_not:
                    logger.error("engine %s failed and no other can take over: %s", failed.name, why_not)
                    self._no_other = why_not
                    raise InferenceError(f"{error}; no other engine can take over: {why_not}") from error
            return self._serving if failed is self._other else self._other

    def _count(self, failed: Engine, other: Engine, error: InferenceError) -> None:
        """Count a batch on which only ``failed`` failed; after too many in a row ``other`` runs all further ones."""
        if failed is not self._serving:
            return
        self._failed_in_a_row += 1
        if self._failed_in_a_row < FAILURES_IN_A_ROW:
            return
        logger.error(
            "engine %s failed %d times in a row, %s runs all from now on",
            failed.name,
            FAILURES_IN_A_ROW,
            other.name,
        )
        self._why = f"engine {failed.name} failed {FAILURES_IN_A_ROW} times in a row ({error})"
        self._serving, self._other = other, failed
        self._failed_in_a_row = 0

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._serving.close()
        if self._other is not None:
            self._other.close()
