"""Every Prometheus metric of Standgale, in one place: names, meanings, labels (all bounded), and who sets them.

Counters count after success only. Gauges that only some processes set carry a label, so that a process which never sets
one exports no false zero.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_DEVICE_LABELS = 1_000
OTHER = "other"

# HTTP: set by infra.telemetry.http for every service. `endpoint` is the route's template, never the path.
HTTP_REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["method", "endpoint", "status"])
HTTP_DURATION = Histogram(
    "http_request_duration_seconds", "Time to answer an HTTP request", ["method", "endpoint"], buckets=_SECONDS
)
API_REQUESTS = Counter("api_requests_total", "Requests to /api answered", ["method", "endpoint", "status"])
API_DURATION = Histogram(
    "api_request_duration_seconds", "Time to answer a request to /api", ["method", "endpoint"], buckets=_SECONDS
)

# Ingest.
IMAGES_STORED = Counter("images_stored_total", "Images durable in the frame store and announced", ["device_id"])
FRAMES_REJECTED = Counter("standgale_frames_rejected_total", "Uploads refused, by error code", ["reason"])
CLOCK_AHEAD = Gauge(
    "standgale_clock_ahead_seconds", "How far another clock is ahead of this machine's; negative: behind", ["clock"]
)
FRAME_STORE = Gauge(
    "standgale_frame_store_bytes", "used: by frames, counted now and then; free: on the disk of the folder", ["what"]
)

# Detectors.
INFERENCE_REQUESTS = Counter("inference_requests_total", "Frames answered by a model", ["model", "status"])
INFERENCE_DURATION = Histogram("inference_duration_seconds", "Engine time per frame", ["model"], buckets=_SECONDS)
DETECTIONS_PER_IMAGE = Histogram("detections_per_image", "Detections found in one frame", buckets=_COUNTS)
DETECTIONS_TOO_LARGE = Counter(
    "standgale_detections_too_large_total", "Boxes left out for being larger than their class can be", ["model"]
)
MODEL_LOAD_TIME = Gauge("model_load_time_seconds", "Time to load and warm up the model", ["model"])
MODEL_STATE = Gauge(
    "standgale_model_state", "1 for the state each model of the worker is in", ["lane", "model", "version", "state"]
)
MODEL_SWAPS = Counter("standgale_model_swaps_total", "Model versions rolled out in this process", ["lane", "result"])
FRAME_LATENCY = Histogram(
    "standgale_frame_latency_seconds",
    "From a frame's upload to its detections being committed",
    ["topic"],
    buckets=_SECONDS,
)
ENGINE_FAILURES = Counter("standgale_engine_failures_total", "Batches of tiles an engine failed on", ["engine"])
DUPLICATE_FRAMES = Counter("standgale_duplicate_frames_total", "Frames dropped because they were answered before")

FRAMES_LATE = Counter("standgale_frames_late_total", "Live frames passed over for being late", ["policy"])

# Consumers: set by the sink loop (infra.consuming.consumer_loop) and by the detector's worker.
RECORDS_CONSUMED = Counter("standgale_records_consumed_total", "Records done and committed", ["group", "topic"])
RECORDS_FAILED = Counter(
    "standgale_records_failed_total", "Failed tries of single records", ["group", "topic", "reason"]
)
RECORDS_DEAD = Counter("standgale_records_dead_lettered_total", "Records dead-lettered", ["group", "topic", "reason"])
RECORDS_LOST = Counter(
    "standgale_records_lost_total", "Records that retention deleted before they were read", ["group", "topic"]
)
RETRIES = Counter("standgale_retries_total", "Tries repeated because the world was in the way", ["group", "reason"])
PARTITIONS_LOST = Counter("standgale_partitions_lost_total", "Partitions lost with work under way", ["group"])
CONSUMER_LAG = Gauge("standgale_consumer_lag_records", "Records not committed on owned partitions", ["group", "topic"])
PROCESS_DURATION = Histogram(
    "standgale_process_duration_seconds", "Time to work off one batch", ["group"], buckets=_SECONDS
)
COMMIT_DURATION = Histogram(
    "standgale_commit_duration_seconds", "Time to commit one batch", ["group"], buckets=_SECONDS
)
IN_FLIGHT_BYTES = Gauge("standgale_in_flight_bytes", "Bytes held for records under way", ["group"])
DELIVERY_LATENCY = Histogram(
    "standgale_delivery_latency_seconds",
    "From a record's time in the broker to the sink having written and committed it",
    ["group"],
    buckets=_SECONDS,
)

# The embedded broker: set by the process that cleans.
RETENTION_HELD = Gauge(
    "standgale_retention_held_records",
    "Records past their retention that stay because the group has not committed them",
    ["group"],
)

# Server-sent events.
SSE_CLIENTS = Gauge("standgale_sse_clients", "Clients connected now", ["stream"])
SSE_EVENTS = Counter("standgale_sse_events_sent_total", "Events handed to clients", ["stream"])
SSE_DROPPED = Counter("standgale_sse_clients_dropped_total", "Clients disconnected for being slow", ["stream"])

# Health: set by infra.process.health.
READY = Gauge("standgale_ready", "1 while the part is ready, else 0", ["part"])

_devices: set[str] = set()


def image_stored(device_id: str) -> None:
    """Count one stored image. Beyond a thousand devices, further ones share the label ``other``."""
    if device_id not in _devices:
        if len(_devices) >= _DEVICE_LABELS:
            device_id = OTHER
        else:
            _devices.add(device_id)
    IMAGES_STORED.labels(device_id).inc()
