"""Every engine that can be used on this machine keeps the engine contract."""

from __future__ import annotations

import pytest

from detectors.engines.registry import ENGINES, EngineEntry
from standgale.testing.engine import EngineContract


class TestEngine(EngineContract):
    @pytest.fixture(params=["openvino", "onnxruntime"])
    def entry(self, request: pytest.FixtureRequest) -> EngineEntry:
        return ENGINES[request.param]
