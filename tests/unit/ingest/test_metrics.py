"""The metrics of the gateway: the label of a device is bounded."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

import ingest.metrics
from infra.telemetry.buckets import OTHER, BoundedLabel
from ingest.metrics import image_stored


def stored(device_id: str) -> float:
    return REGISTRY.get_sample_value("images_stored_total", {"device_id": device_id}) or 0.0


def test_devices_beyond_the_limit_share_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.metrics, "_DEVICES", BoundedLabel(2))
    for device in ("metric-a", "metric-b", "metric-c", "metric-a", "metric-d"):
        image_stored(device)
    assert stored("metric-a") == 2
    assert stored("metric-b") == 1
    assert stored("metric-c") == 0
    assert stored(OTHER) >= 2
