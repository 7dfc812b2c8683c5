"""Computes when frames were taken: the start of their stream plus their presentation time, against drifting clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.video.counts import VideoCounts
from schemas.events import ClockOrigin

# A step of the stream's times that arrivals do not explain is a jump: the camera began anew. Frames that arrive late,
# all at once, are none.
_JUMP_S = 5.0
_STEP_BACK_S = 0.5
# What the network delays differs from frame to frame; the least delay in this time is that of the clock.
_WINDOW_S = 20.0
# A correction changes the rate of the clock by at most this share, so that no time goes back.
_SLEW = 0.02
# Two clocks that differ by less are the same.
_SAME_S = 0.005
_TICK = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordingClock:
    """Gives the capture times of a recording: its start plus the presentation time, the same for each reading."""

    def __init__(self, start: datetime, origin: ClockOrigin) -> None:
        """Count from ``start``, which is the time of the first frame."""
        self.origin = origin
        self._start = start
        self._last: datetime | None = None

    def captured_at(self, time_s: float) -> datetime:
        """Return the time of the frame at ``time_s``; always later than the one before."""
        self._last = _later(self._start + timedelta(seconds=round(time_s, 6)), self._last)
        return self._last


class LiveClock:
    """Gives the capture times of one connection to a camera.

    The start is that of the camera's own clock (RTCP, telemetry) where that is right, else by arrival: the frames'
    arrival with the least delay. A camera's clock that runs faster or slower than this machine's is followed slowly.
    """

    def __init__(
        self,
        start: datetime,
        origin: ClockOrigin,
        counts: VideoCounts,
        *,
        tolerance_s: float,
        max_difference_s: float = 30.0,
        not_before: datetime | None = None,
    ) -> None:
        """Count from ``start``, the time of the stream's time 0; ``not_before``: the last frame before a reconnect.

        A camera's clock that differs by more than ``max_difference_s`` from the arrivals is not used.
        """
        self.origin = origin
        self._counts = counts
        self._tolerance_s = tolerance_s
        self._start_s = (start - _EPOCH).total_seconds()
        self._max_difference_s = max_difference_s
        self._has_camera_time = False
        self._correction_s = 0.0
        self._last = not_before
        self._last_time_s: float | None = None
        self._last_arrival_s = 0.0
        self._window_from_s = 0.0
        self._least_delay_s: float | None = None

    def captured_at(self, time_s: float, arrived_at: datetime, camera_time: datetime | None = None) -> datetime:
        """Return when the frame at ``time_s`` of the stream was taken; always later than the one before.

        ``camera_time`` is what the camera's own clock says about this frame, where it does.
        """
        arrival_s = (arrived_at - _EPOCH).total_seconds()
        if self._last_time_s is None:
            self._window_from_s = arrival_s
        else:
            self._follow(time_s, arrival_s)
        if camera_time is not None:
            self._use_camera_time((camera_time - _EPOCH).total_seconds() - time_s)
        self._last_time_s, self._last_arrival_s = time_s, arrival_s
        self._last = _later(_EPOCH + timedelta(seconds=round(self._start_s + time_s, 6)), self._last)
        return self._last

    def _follow(self, time_s: float, arrival_s: float) -> None:
        assert self._last_time_s is not None
        step_s = time_s - self._last_time_s
        is_odd = step_s < -_STEP_BACK_S or step_s > _JUMP_S
        if is_odd and abs(step_s - (arrival_s - self._last_arrival_s)) > (_JUMP_S if step_s > 0 else _STEP_BACK_S):
            self._counts.time_jumps += 1
            self._start_s = arrival_s - time_s
            self._restart_window(arrival_s)
            self._correction_s = 0.0
            return
        slew = max(-_SLEW * step_s, min(_SLEW * step_s, self._correction_s)) if step_s > 0 else 0.0
        self._start_s += slew
        self._correction_s -= slew
        if self.origin != "arrival" or self._has_camera_time:
            return
        delay_s = arrival_s - (self._start_s + time_s)
        self._least_delay_s = delay_s if self._least_delay_s is None else min(self._least_delay_s, delay_s)
        if arrival_s - self._window_from_s >= _WINDOW_S:
            if abs(self._least_delay_s) > self._tolerance_s:
                self._correction_s = self._least_delay_s
                self._counts.corrected += 1
            self._restart_window(arrival_s)

    def _use_camera_time(self, start_s: float) -> None:
        """Follow the camera's clock; where it is known only after some frames, go over to it without a jump."""
        if self.origin == "rtcp":
            difference_s = start_s - self._start_s
            if self._last_time_s is None or abs(difference_s) > _STEP_BACK_S:
                self._start_s, self._correction_s = start_s, 0.0
            else:
                # Reports of some cameras differ by a frame's time; a step would look like a frame that is missing.
                self._correction_s = difference_s
        elif self.origin == "arrival" and abs(start_s - self._start_s) <= self._max_difference_s:
            self._has_camera_time = True
            self._correction_s = start_s - self._start_s
            if abs(self._correction_s) < _SAME_S:
                self.origin = "rtcp"

    def _restart_window(self, arrival_s: float) -> None:
        self._window_from_s = arrival_s
        self._least_delay_s = None


def _later(moment: datetime, last: datetime | None) -> datetime:
    return moment if last is None or moment > last else last + _TICK
