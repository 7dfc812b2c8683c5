"""Checks what is filled in on a model card, and which errors wrong cards give."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from detectors.card.card import ModelCard, read_card, verified_model_file
from detectors.errors import ModelLoadError
from infra.errors import TransientError

FIELDS: dict[str, object] = {
    "name": "kites",
    "version": "2.1.0",
    "file": "kites.onnx",
    "sha256": sha256(b"graph").hexdigest(),
    "input": {"width": 640, "height": 480},
    "classes": [{"name": "kite", "color": "#00ff7f", "max_size_m": 2.5}, {"name": "gull"}],
    "licence": "Apache-2.0",
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "model.yaml"
    fields = {key: value for key, value in {**FIELDS, **changes}.items() if value is not ...}
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return path


def test_a_short_card_is_enough(tmp_path: Path) -> None:
    card = read_card(write(tmp_path))
    assert (card.layout, card.input.channels, card.input.letterbox, card.input.pad) == (None, "rgb", "center", 114)
    assert card.input.scale == pytest.approx(1 / 255)
    assert (card.merge.method, card.precision, card.tiling.mode) == ("nms", "auto", "fixed")
    assert [(one.name, one.max_size_m) for one in card.classes] == [("kite", 2.5), ("gull", None)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": ...}, "sha256: Field required"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"layout": "yolo99"}, "layout: .*'yolov8', .* or 'mmdet'.*'yolo99'"),
        ({"input": {"width": 640, "height": 480, "scale": 255}}, "input.scale: .*less than or equal to 1 .got 255"),
        ({"input": {"width": 640, "height": 480, "std": [1, 0, 1]}}, "input.std.1"),
        ({"input": {"width": 16, "height": 480}}, "input.width: .*greater than or equal to 32"),
        ({"classes": []}, "classes: "),
        ({"input": {"width": 640, "height": 480, "mean": [0, 0, float("nan")]}}, "input.mean.2: .*got nan"),
        ({"input": {"width": 640, "height": 480, "std": [float("inf"), 1, 1]}}, "input.std.0: .*got inf"),
        ({"input": {"width": 640, "height": 480, "scale": 1e-300}}, "input.scale: .*got 1e-300"),
        ({"file": "a\0b"}, "file: .*got 'a.x00b'"),
        ({"files": {"a\0b": "0" * 64}}, r"files.a\0b"),
        ({"classes": [{"name": "small\0boat"}]}, "classes.0.name: .*got 'small.x00boat'"),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "a is there twice"),
        ({"classes": [{"name": "a", "color": "red"}]}, r"classes.0.color: .*got 'red'"),
        ({"version": 1.0}, "version: Input should be a valid string"),
        ({"thresholds": {"confidence": 30}}, "thresholds.confidence"),
        ({"tiling": {"mode": "fixed", "overlap": 0.95}}, "tiling.overlap"),
        ({"tiling": {"scales": []}}, "tiling.scales"),
        ({"tiling": {"scales": [1, 0.05]}}, "tiling.scales.*greater than or equal to 0.1 .got 0.05"),
        ({"tiling": {"scales": [0.5, 1, 0.5]}}, "tiling.scales.*0.5, 1, 0.5 is there twice"),
        ({"tiling": {"scales": "both"}}, "tiling.scales.*'auto' .got 'both'"),
        ({"tiling": {"object_px": [250, 8]}}, "tiling: .*object_px: 250 to 8 is no range; write the smaller number"),
        ({"tiling": {"gsd_m": [0, 0.2]}}, "tiling.gsd_m.0: .*greater than 0 .got 0"),
        ({"classes": [{"name": "a", "confidence": 70}]}, "classes.0.confidence: .*less than or equal to 1 .got 70"),
        ({"classes": [{"name": "a", "evidence": "photos"}]}, "classes.0.evidence: .*'photographs'.* .got 'photos'"),
    ],
)
def test_a_wrong_card_names_the_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ModelLoadError, match=message) as caught:
        read_card(path)
    assert str(path) in str(caught.value)
    assert caught.value.code == "MODEL_LOAD_ERROR"
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize("text", ["name: [", "just words", "", "\x00"])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(ModelLoadError, match=r"model\.yaml"):
        read_card(path)


def test_card_scales_ranges_and_own_confidences_are_read(tmp_path: Path) -> None:
    plain = read_card(write(tmp_path))
    assert (plain.tiling.scales, plain.tiling.object_px, plain.tiling.gsd_m) == ((1.0,), None, None)
    assert plain.confidences == (0.25, 0.25)
    assert [one.evidence for one in plain.classes] == [None, None]
    classes = [{"name": "kite", "confidence": 0.7, "evidence": "drawn"}, {"name": "gull", "evidence": "photographs"}]
    tiling = {"scales": [1, 0.5], "object_px": [8, 250], "gsd_m": [0.02, 0.2]}
    card = read_card(write(tmp_path, classes=classes, tiling=tiling, thresholds={"confidence": 0.4}))
    assert (card.tiling.scales, card.tiling.object_px, card.tiling.gsd_m) == ((1.0, 0.5), (8.0, 250.0), (0.02, 0.2))
    assert card.confidences == (0.7, 0.4)
    assert [one.evidence for one in card.classes] == ["drawn", "photographs"]
    assert read_card(write(tmp_path, tiling={"scales": "auto"})).tiling.scales == "auto"


def test_a_missing_card_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="STANDGALE_DETECTOR__MODEL"):
        read_card(tmp_path / "model.yaml")


def test_a_card_that_is_no_file_or_grows_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ModelLoadError, match="it is a pipe"):
        read_card(tmp_path / "pipe.yaml")
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 10)]
    (tmp_path / "card.yaml").write_text("\n".join(["a0: &a0 [x, x]", *levels, "name: *a9"]))
    with pytest.raises(ModelLoadError, match="more than 200,000 values"):
        read_card(tmp_path / "card.yaml")
    with pytest.raises(ModelLoadError, match=r"name: Input should be a valid string") as caught:
        read_card(write(tmp_path, name=["x" * 5_000] * 20))
    assert len(str(caught.value)) < 3_000


def test_a_missing_or_changed_model_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    card = read_card(path)
    with pytest.raises(ModelLoadError, match=r"kites\.onnx cannot be read"):
        verified_model_file(card, path)
    (tmp_path / "kites.onnx").write_bytes(b"another")
    with pytest.raises(ModelLoadError, match="the file is damaged or a different one") as caught:
        verified_model_file(card, path)
    assert card.sha256 in str(caught.value)


def test_the_model_file_is_found_next_to_the_card(tmp_path: Path) -> None:
    (tmp_path / "kites.onnx").write_bytes(b"graph")
    path = write(tmp_path)
    assert verified_model_file(read_card(path), path) == tmp_path / "kites.onnx"


def test_a_card_of_very_many_classes_is_checked_in_a_moment_and_its_error_is_short(tmp_path: Path) -> None:
    classes = [{"name": f"c{number}"} for number in range(10_000)]
    began_s = time.process_time()
    ModelCard.model_validate({**FIELDS, "classes": classes})
    assert time.process_time() - began_s < 0.6
    with pytest.raises(ModelLoadError, match="c0, c1, c2, c3, c4 and 3 more is there twice") as caught:
        read_card(write(tmp_path, classes=classes[:200] + classes[:8]))
    assert len(str(caught.value)) < 400
