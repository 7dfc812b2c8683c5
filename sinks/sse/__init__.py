"""Streams detections to browsers and scripts as server-sent events, and resumes without a loss or a repetition."""

from sinks.sse.http import STREAM_PATH, create_sse_app, sse_routes
from sinks.sse.hub import DetectionHub

__all__ = ["STREAM_PATH", "DetectionHub", "create_sse_app", "sse_routes"]
