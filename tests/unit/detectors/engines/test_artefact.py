"""Checks what is logged where no engine artefact can be used."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from detectors.card.card import InputCard
from detectors.engines import artefact
from detectors.engines.artefact import artefact_for
from detectors.engines.port import EngineRequest
from schemas.event_base import ModelRef


@pytest.mark.parametrize(("why_no_gpu", "level"), [("there is no driver", logging.DEBUG), (None, logging.INFO)])
def test_missing_tensorrt_is_news_only_where_there_is_a_gpu(
    why_no_gpu: str | None, level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(artefact, "why_no_tensorrt", lambda: "TensorRT is not installed")
    monkeypatch.setattr(artefact, "why_no_gpu", lambda: why_no_gpu)
    caplog.set_level(logging.DEBUG)
    request = EngineRequest(Path("model.onnx"), InputCard(width=64, height=32), 1, "f32")
    assert artefact_for(request, Path("cache"), ModelRef(name="boats", version="1")) is None
    assert [(one.levelno, one.message) for one in caplog.records] == [
        (level, "no TensorRT engine is built for boats 1: TensorRT is not installed")
    ]
