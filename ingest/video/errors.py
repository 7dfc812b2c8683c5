"""Defines the errors of reading videos and their telemetry."""

from __future__ import annotations

from infra.errors import RecordError, SettingsError, TransientError


class VideoError(RecordError):
    """The file or stream is no video, or none that can be decoded; trying again does not help."""

    code = "INVALID_VIDEO"


class FramesTooLargeError(VideoError):
    """The frames have more pixels than a setting allows; the text names it."""


class TelemetryError(SettingsError):
    """A telemetry file cannot be opened; the text names it."""

    code = "INVALID_TELEMETRY"


class VideoStartError(SettingsError):
    """A recording does not say when it began, so its frames would have no capture time that a retry repeats."""

    code = "VIDEO_START_UNKNOWN"


class VideoUnavailableError(TransientError):
    """A camera or server does not respond, refuses, or broke off; a later try may succeed."""

    code = "VIDEO_UNAVAILABLE"


class CameraLoginError(VideoUnavailableError):
    """A camera takes neither user nor password; many lock an account after some tries."""

    code = "VIDEO_LOGIN"
