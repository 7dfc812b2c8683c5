"""Defines the metrics of detector workers; see :mod:`infra.telemetry.buckets` for the rules of labels."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.buckets import COUNTS, SECONDS

INFERENCE_REQUESTS = Counter("inference_requests_total", "Frames that a model processed", ["model", "status"])
INFERENCE_DURATION = Histogram("inference_duration_seconds", "Engine time per frame", ["model"], buckets=SECONDS)
MODEL_INFERENCE_TIME = Histogram(
    "model_inference_time_seconds",
    "Engine time per picture, as inference_duration_seconds, in the buckets of the dashboards of jobs",
    ["model"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
DETECTION_COUNT = Counter("detection_count_total", "Objects that were detected, by class", ["class"])
DETECTIONS_PER_IMAGE = Histogram("detections_per_image", "Detections found in one frame", buckets=COUNTS)
DETECTIONS_TOO_LARGE = Counter(
    "standgale_detections_too_large_total", "Boxes left out because they are larger than their class can be", ["model"]
)
MODEL_LOAD_TIME = Gauge("model_load_time_seconds", "Time to load and warm up the model", ["model"])
MODEL_STATE = Gauge(
    "standgale_model_state",
    "1 for the current state of each model of the worker",
    ["lane", "model", "version", "state"],
)
MODEL_SWAPS = Counter("standgale_model_swaps_total", "Model versions rolled out in this process", ["lane", "result"])
FRAME_LATENCY = Histogram(
    "standgale_frame_latency_seconds",
    "From the upload of a frame to the commit of its detections event",
    ["topic"],
    buckets=SECONDS,
)
ENGINE_FAILURES = Counter("standgale_engine_failures_total", "Batches of tiles on which an engine failed", ["engine"])
DUPLICATE_FRAMES = Counter("standgale_duplicate_frames_total", "Frames dropped because they had a detections event")
RULINGS = Counter("standgale_rulings_total", "Detections that rules confirmed, dropped or relabelled", ["ruling"])
RULES_PROBLEMS = Counter("standgale_rules_problems_total", "Frames whose rules gave no rulings", ["model"])
RULES_DURATION = Histogram("standgale_rules_duration_seconds", "Time of rules per frame", buckets=SECONDS)
FRAMES_LATE = Counter(
    "standgale_frames_late_total", "Live frames put off or given up because they were late", ["policy"]
)
