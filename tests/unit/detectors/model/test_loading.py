"""Requests to load a model: what they take over from the settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from detectors.model.loading import _SHARED, LoadRequest
from detectors.settings import DetectorSettings

CHANGED = {"engine": "onnxruntime", "threads": 3, "precision": "f16", "measure_s": 1.5, "fallback": False}


def test_load_request_shared_settings_are_all_listed() -> None:
    assert set(CHANGED) == _SHARED


def test_a_request_takes_over_every_shared_setting() -> None:
    defaults = DetectorSettings()
    assert all(getattr(defaults, name) != value for name, value in CHANGED.items())
    settings = DetectorSettings.model_validate({**CHANGED, "model": "/models/model.yaml"})

    request = LoadRequest.of(settings, Path("/engines"))

    assert {name: value for name, value in asdict(request).items() if name in CHANGED} == CHANGED
    assert request.card == Path("/models/model.yaml")
    assert LoadRequest.of(settings, Path("/engines")) != LoadRequest.of(settings)
