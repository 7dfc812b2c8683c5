"""The input of ONNX Runtime; tests/contract/engines has what it shares with the other engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detectors.card.card import read_card
from detectors.engines.cpu.onnxruntime import to_input
from standgale.testing.graphs import GraphSpec, write_model

SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)


def test_input_is_scaled_shifted_and_swapped(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, SPEC)).input.model_copy(
        update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    )
    made = np.random.default_rng(3).integers(0, 256, (2, 32, 64, 3), np.uint8)
    rgb = made[..., ::-1].astype(np.float64) / 255
    expected = ((rgb - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(0, 3, 1, 2)
    assert np.abs(to_input(made, card) - expected).max() < 1e-5
