"""The SSE sink: detections as they happen, for browsers and scripts, resumable with nothing missed or repeated."""

from sinks.sse.http import STREAM_PATH, create_sse_app, sse_routes
from sinks.sse.hub import DetectionHub

__all__ = ["STREAM_PATH", "DetectionHub", "create_sse_app", "sse_routes"]
