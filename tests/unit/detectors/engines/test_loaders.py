"""Checks the ways of the GPU engines, and the requirements of torch, without torch and without a GPU."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from detectors.card.card import exported_program, read_card
from detectors.engines import loaders
from detectors.engines.port import EngineRequest
from detectors.engines.registry import ENGINES, load_engine
from detectors.errors import ModelLoadError
from detectors.model.loading import LoadRequest, read_request
from standgale.testing.graphs import GraphSpec, write_model


def test_ways_keep_to_the_precision_asked_for(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, GraphSpec(width=64, height=32)))
    wanted = EngineRequest(tmp_path / card.file, card.input, 1, "f32")
    assert {way.precision for way in loaders.gpu_ways("torch", ("f16", "f32"), wanted, True)} == {"f32"}
    assert next(way.batch for way in loaders.gpu_ways("torch", ("f32",), wanted, True)) == 8
    assert [way.batch for way in loaders.gpu_ways("torch", ("f32",), wanted, False)] == [0]
    assert load_engine("onnxruntime", wanted).name == "onnxruntime"


def test_torch_needs_a_program_that_the_card_names(tmp_path: Path) -> None:
    card = read_card(write_model(tmp_path, GraphSpec(width=64, height=32)))
    wanted = EngineRequest(tmp_path / card.file, card.input, 1, "auto")
    assert exported_program(card, tmp_path / "model.yaml") is None
    assert not loaders.torch_ways(wanted, True)
    with pytest.raises(
        ModelLoadError, match=r"card of .*model\.onnx names no \.pt2 file: write one with torch\.export"
    ):
        ENGINES["torch"].open(wanted)
    ways = loaders.torch_ways(replace(wanted, exported=tmp_path / "model.pt2"), True)
    assert {way.precision for way in ways} == {"f32", "f16", "bf16"}


def test_the_card_names_the_program_by_its_ending_and_checksum(tmp_path: Path) -> None:
    path = write_model(tmp_path, GraphSpec(width=64, height=32))
    (tmp_path / "model.pt2").write_bytes(b"a program")
    digest = sha256(b"a program").hexdigest()
    path.write_text(path.read_text() + f"files: {{model.pt2: {digest}, notes.txt: {digest}}}\n")
    (tmp_path / "notes.txt").write_bytes(b"a program")
    _, wanted = read_request(LoadRequest(path))
    assert wanted.exported == tmp_path / "model.pt2"
    (tmp_path / "model.pt2").write_bytes(b"another program")
    with pytest.raises(ModelLoadError, match=r"model\.pt2 has SHA-256 .*correct files\.model\.pt2"):
        read_request(LoadRequest(path))
