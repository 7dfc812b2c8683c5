"""Counts do not depend on the order and the grouping of events; each event counts once, in its minute."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import reduce
from uuid import uuid4

from schemas.events import DetectionsMade
from schemas.statistics_events import MOST_LABELS, StatisticsCounted
from sinks.statistics.counts import Counts, Window, count_events
from sinks.statistics.report import statistics_event, statistics_record
from sinks.statistics.state import counts_from_text, counts_to_text
from standgale.testing.factories import START, detections_made


def report_of(events: list[DetectionsMade]) -> dict[Window, StatisticsCounted]:
    return {window: statistics_event(window, counts) for window, counts in count_events(events).items()}


def some_events(count: int = 150) -> list[DetectionsMade]:
    """Events of two devices over several minutes; the labels differ from frame to frame."""
    labels = ("car", "boat", "bird")
    return [
        detections_made(
            number, device=f"drone-{number % 2}", labels=labels[: number % 4], version=f"1.{number % 7 // 6}"
        )
        for number in range(count)
    ]


def test_a_window_counts_what_its_minute_has() -> None:
    events = [detections_made(number, labels=("car", "car", "boat")[: number % 4]) for number in range(61)]
    first, second = report_of(events).values()
    assert (first.minute, first.device_id, first.model.name, first.source) == (START, "drone-1", "small", "live")
    assert (first.frames, first.frames_with_detections, first.detections, first.revision) == (60, 45, 90, 60)
    assert first.frames_per_s == 1.0
    assert [(one.label, one.detections, one.frames) for one in first.classes] == [("boat", 15, 15), ("car", 75, 45)]
    assert [one.mean_confidence for one in first.classes] == [0.25, round((45 * 0.5 + 30 * 0.3333) / 75, 4)]
    assert (first.first_captured_at, first.last_captured_at) == (START, START + timedelta(seconds=59))
    times = first.times
    assert (times.captured_to_received.max_ms, times.received_to_detected.mean_ms) == (100, 250)
    assert (times.captured_to_detected.p50_ms, times.lag.p99_ms) == (350, 1)
    assert (second.minute, second.frames, second.other_detections) == (START + timedelta(minutes=1), 1, 0)


def test_order_and_grouping_of_events_change_nothing() -> None:
    events = some_events()
    right = count_events(events)
    assert len({(window.device_id, window.model_version) for window in right}) == 4
    rng = random.Random(7)
    for _ in range(5):
        rng.shuffle(events)
        parts: dict[Window, list[Counts]] = {}
        rest = list(events)
        while rest:
            size = rng.randrange(1, 20)
            part, rest = rest[:size], rest[size:]
            for window, counts in count_events(part).items():
                parts.setdefault(window, []).append(counts_from_text(counts_to_text(counts)))
        found = {window: reduce(Counts.plus, each) for window, each in parts.items()}
        assert found == right
        assert [statistics_record(*one) for one in sorted(found.items())] == [
            statistics_record(*one) for one in sorted(right.items())
        ]


def test_an_event_that_is_there_twice_counts_once() -> None:
    events = some_events(10)
    assert count_events([*events, *events[3:7]]) == count_events(events)


def test_frames_of_jobs_and_live_frames_have_separate_windows() -> None:
    live, of_job = detections_made(1), detections_made(1, id=uuid4(), job_id=uuid4())
    assert sorted(window.source for window in count_events([live, of_job])) == ["jobs", "live"]


def test_a_frame_captured_after_it_arrived_counts_as_clock_ahead() -> None:
    early = START - timedelta(seconds=2)
    (report,) = report_of([detections_made(0, received_at=early, detected_at=early)]).values()
    assert report.clock_ahead == 1
    assert report.times.captured_to_detected.mean_ms == report.times.captured_to_received.max_ms == 0


def test_more_labels_than_an_event_lists_are_counted_together() -> None:
    """The event stays small enough for its topic, and does not depend on which frame came first."""
    many = [f"{number:06}" for number in range(2 * MOST_LABELS)]
    events = [detections_made(number, labels=many[number::3]) for number in range(3)]
    reports = [report_of(order) for order in (events, events[::-1])]
    assert reports[0] == reports[1]
    (report,) = reports[0].values()
    assert [one.label for one in report.classes] == many[:MOST_LABELS]
    assert (report.detections, report.other_detections) == (2 * MOST_LABELS, MOST_LABELS)


def test_the_largest_event_fits_its_topic() -> None:
    labels = [f"{number:04}" + "\x01" * 96 for number in range(MOST_LABELS)]
    ((window, counts),) = count_events([detections_made(0, labels=labels)]).items()
    assert len(statistics_record(window, counts).value or b"") < 900_000


def test_labels_with_quotes_and_nul_are_counted_and_can_be_stored() -> None:
    (report,) = report_of([detections_made(0, labels=("a'\"b", "nul\0"))]).values()
    assert [one.label for one in report.classes] == ["a'\"b", "nul\ufffd"]
