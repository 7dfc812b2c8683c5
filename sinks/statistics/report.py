"""Makes the events of counted windows, and the records that publish them."""

from __future__ import annotations

from infra.broker.event_records import event_record
from infra.broker.port import OutRecord
from schemas.event_base import ModelRef
from schemas.ids import statistics_event_id
from schemas.statistics_events import ClassStatistics, FrameTimes, StatisticsCounted
from schemas.topics import STATS
from sinks.statistics.counts import CONFIDENCE_STEPS, WINDOW_S, ClassCount, Counts, Window

SOURCE = "/standgale/statistics"


def statistics_event(window: Window, counts: Counts) -> StatisticsCounted:
    """Return the event about ``counts``; the same counts always give the same event.

    Its revision is the number of frames: no frame is ever taken out, so a later state has a larger one, whoever counts.
    """
    listed = sum(each.detections for each in counts.classes.values())
    return StatisticsCounted(
        id=statistics_event_id(window.id, counts.frames),
        window_id=window.id,
        device_id=window.device_id,
        minute=window.minute,
        model=ModelRef(name=window.model_name, version=window.model_version),
        source=window.source,
        revision=counts.frames,
        frames=counts.frames,
        frames_with_detections=counts.frames_with_detections,
        frames_per_s=round(counts.frames / WINDOW_S, 4),
        first_captured_at=counts.first_captured_at,
        last_captured_at=counts.last_captured_at,
        last_detected_at=counts.last_detected_at,
        clock_ahead=counts.clock_ahead,
        detections=counts.detections,
        classes=[_class_statistics(label, counts.classes[label]) for label in sorted(counts.classes)],
        other_detections=counts.detections - listed,
        times=FrameTimes(**{step: times.spread() for step, times in counts.times.items()}),
    )


def statistics_record(window: Window, counts: Counts) -> OutRecord:
    """Return the record that publishes ``counts`` on the topic ``stats``."""
    event = statistics_event(window, counts)
    return event_record(
        STATS,
        event,
        id=event.id,
        source=SOURCE,
        subject=str(event.window_id),
        time=event.last_detected_at,
        key=event.device_id,
    )


def _class_statistics(label: str, count: ClassCount) -> ClassStatistics:
    return ClassStatistics(
        label=label,
        detections=count.detections,
        frames=count.frames,
        mean_confidence=round(count.confidence_sum / count.detections / CONFIDENCE_STEPS, 4),
    )
