"""Checks that the page about models lists every layout, and that its code for grey models works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from detectors.card.card import ShippedLayout
from detectors.model.inspect import inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from standgale.testing.graphs import CLASS_NAMES, GraphSpec, build
from tests.paths import ROOT

PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")


def test_models_page_lists_every_layout_and_its_input() -> None:
    for layout in get_args(ShippedLayout):
        assert len(re.findall(rf"^\|[^|]*`{layout}`", PAGE, re.MULTILINE)) >= 2, layout


def test_code_for_grey_models_makes_a_model_that_finds_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = PAGE.partition("### Grey models")[2].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "grey.onnx").write_bytes(build(GraphSpec(input_channels=1)))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    found = inspect_model(tmp_path / "colours.onnx", names=CLASS_NAMES, engine="onnxruntime")
    image = np.zeros((128, 128, 3), np.uint8)
    image[20:61, 30:77] = 255
    with Predictor(load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime", 1))) as predictor:
        result = predictor.predict(image)
    assert np.abs(result.boxes[0] - [30, 20, 77, 61]).max() <= 1
