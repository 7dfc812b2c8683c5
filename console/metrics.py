"""Defines the metrics of the console; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

UPLOADED_FILES = Counter("uploaded_files_total", "Files of uploads that were accepted")
REQUESTS_REFUSED = Counter("standgale_console_refused_total", "Requests that failed, by error code", ["reason"])
ACTIVE_JOBS = Gauge("active_jobs", "Jobs that have not ended, by status", ["status"])
QUEUE_LENGTH = Gauge("queue_length", "Jobs of which no file is with a detector yet", ["queue"])
MEDIA = Counter("standgale_media_total", "Media that have ended, by how", ["state"])
MEDIA_FRAMES = Counter("standgale_media_frames_total", "Frames of media that were made")
MEDIA_REFRESHES = Counter("standgale_media_refreshes_total", "Tokens that were to be refreshed, by result", ["result"])
INFERENCE_STARTS = Counter("standgale_inference_job_starts_total", "Processes of inference jobs that were started")
