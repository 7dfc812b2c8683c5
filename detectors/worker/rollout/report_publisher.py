"""Publishes the worker's model report to the ``models`` topic, the metrics and the health page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from detectors.metrics import MODEL_STATE
from detectors.worker.rollout.models_topic import availability_record
from infra.broker.port import OutRecord, Publisher
from infra.errors import RefusedError, TopicMismatchError, TransientError
from infra.failure.error_texts import error_text
from infra.process.health import HealthPart
from infra.waiting import wait_until_set
from schemas.errors import StandgaleError
from schemas.model_events import AvailabilityState, ModelAvailability, WorkerAvailability

logger = logging.getLogger(__name__)

VALID_INTERVALS = 3
"""A worker that has missed so many reports counts as ended."""
_DELETE_TIMEOUT_S = 2.0
_PUBLISH = "publish its model report"
_FOR_A_PERSON = (RefusedError, TopicMismatchError)
_URGENT_FIRST: tuple[AvailabilityState, ...] = (
    "error",
    "warning",
    "downloading",
    "converting",
    "uploading",
    "enabled",
    "none",
)


def most_urgent_state(models: Sequence[ModelAvailability]) -> AvailabilityState:
    """Return the most urgent state of ``models``; ``none`` when there are none."""
    states = {one.state for one in models}
    return next((state for state in _URGENT_FIRST if state in states), "none")


def describe_models(models: Sequence[ModelAvailability]) -> str:
    """Return ``models`` as text for people: `m 1.0 serves; m 1.1 downloading`."""
    return "; ".join(_describe_model(one) for one in models)


def _describe_model(one: ModelAvailability) -> str:
    name = f"{one.model.name} {one.model.version}"
    if one.state == "enabled":
        role = " as canary" if one.role == "canary" else ""
        return f"{name} {'serves' if one.serving else 'finishes'}{role}"
    return f"{name} {one.state}" + (f": {one.detail}" if one.detail else "")


def raise_if_cancelled() -> None:
    """Raise CancelledError when the running task was cancelled, but the call it waited for suppressed that.

    Before Python 3.12 ``wait_for``, which the Kafka client uses, does so when its result comes at the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class StateMetric:
    """Sets the metric ``standgale_model_state`` of one roll-out lane, without labels of former models."""

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._shown: set[tuple[str, str, str]] = set()

    def set_states(self, models: Sequence[ModelAvailability]) -> None:
        """Show exactly ``models``."""
        wanted: set[tuple[str, str, str]] = {(one.model.name, one.model.version, one.state) for one in models}
        for labels in self._shown - wanted:
            with contextlib.suppress(KeyError):
                MODEL_STATE.remove(self._lane, *labels)
        for labels in wanted:
            MODEL_STATE.labels(self._lane, *labels).set(1)
        self._shown = wanted


class ReportPublisher:
    """Publishes ``report``: in health and metrics at once, in the topic on each change and every ``interval_s``."""

    def __init__(self, lane: str, health: HealthPart, report: Callable[[], WorkerAvailability]) -> None:
        self._health = health
        self._report = report
        self._metric = StateMetric(lane)
        self._changed = asyncio.Event()
        self._logged: set[str] = set()

    def report_changed(self) -> None:
        """Refresh metrics, health and topic, because the report changed."""
        models = self._report().models
        self._metric.set_states(models)
        self._health.set_note("models", describe_models(models))
        self._changed.set()

    async def publish_reports(self, publisher: Publisher, interval_s: float) -> None:
        """Publish the report on each change and every ``interval_s``, until cancelled."""
        while True:
            raise_if_cancelled()
            self._changed.clear()
            try:
                await publisher.publish([availability_record(self._report())])
            except StandgaleError as error:
                # A worker that cannot publish counts as ended, but it continues to process frames.
                self.set_waiting_for_person(_PUBLISH, error)
                await asyncio.sleep(interval_s / VALID_INTERVALS)
                continue
            self.set_waiting_for_person(_PUBLISH, None)
            await wait_until_set(self._changed, interval_s)

    def set_waiting_for_person(self, what: str, error: StandgaleError | None) -> None:
        """Report in health, and once in the log, that ``what`` waits because of ``error``, if a person must act.

        None ends that; so does an unavailable broker, which the poll loop reports.
        """
        if error is None or (isinstance(error, TransientError) and not isinstance(error, _FOR_A_PERSON)):
            self._health.clear_waiting(what)
            self._logged.discard(what)
            return
        reason = f"{what}: {error_text(error)}"
        self._health.set_waiting(what, reason)
        if what not in self._logged:
            self._logged.add(what)
            logger.warning("the worker is waiting for a person: %s", reason)

    def close(self) -> None:
        """Remove the report from metrics and health."""
        self.set_waiting_for_person(_PUBLISH, None)
        self._metric.set_states(())
        self._health.set_note("models", None)


async def delete_reports(publisher: Publisher, records: Sequence[OutRecord]) -> None:
    """Publish ``records`` that delete reports; a failure is harmless, because reports become invalid with time."""
    try:
        async with asyncio.timeout(_DELETE_TIMEOUT_S):
            await publisher.publish(records)
    except (StandgaleError, TimeoutError) as error:
        logger.debug("reports could not be deleted: %s", error)
