"""Checks what is found in a model file without a card, and that the written card finds known boxes."""

from __future__ import annotations

import errno
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import orjson
import pytest
from typer.testing import CliRunner

from detectors.card.card import Layout, default_card_path, read_card
from detectors.errors import ModelLoadError
from detectors.model import inspect_process
from detectors.model.inspect import Inspection, inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from infra.errors import SettingsError
from standgale.cli import app
from standgale.testing.graphs import CLASS_NAMES, COLOURS_BGR, RFDETR_COLUMNS, GraphSpec, build
from tests.graphs.yolox_net import build_yolox
from tests.paths import real_file

NAMES = {"names": "{0: 'red', 1: 'green', 2: 'blue'}", "task": "detect", "stride": "32"}


def file_of(folder: Path, spec: GraphSpec, name: str = "my model.onnx") -> Path:
    path = folder / name
    path.write_bytes(build(spec))
    return path


def look(
    path: Path,
    layout: Layout | None = None,
    names: tuple[str, ...] = (),
    size: tuple[int, int] | None = None,
) -> Inspection:
    return inspect_model(path, layout, names, size, "onnxruntime")


def has_note(found: Inspection, text: str) -> bool:
    return any(text in each for each in found.assumed)


@pytest.mark.parametrize(
    ("spec", "stated"),
    [
        (GraphSpec("yolov8", metadata=NAMES), None),
        (GraphSpec("yolov5", width=160, height=96), None),
        (GraphSpec("nms_inside", metadata=NAMES), None),
        (GraphSpec("yolox", channels="bgr", scale=1.0), "yolox"),
        (GraphSpec("yolox_decoded", channels="bgr", scale=1.0), "yolox_decoded"),
        (GraphSpec("rtdetr", width=160, height=96, turned=True), None),
    ],
)
def test_the_card_written_for_a_file_finds_known_boxes(tmp_path: Path, spec: GraphSpec, stated: Layout | None) -> None:
    found = look(file_of(tmp_path, spec), stated, CLASS_NAMES)
    assert found.card.layout == spec.layout
    card = write_card(found, tmp_path)
    assert read_card(card) == found.card
    image = np.zeros((spec.height, spec.width, 3), np.uint8)
    image[20:61, 30:77] = COLOURS_BGR[1]
    with Predictor(load_model(LoadRequest(card, "onnxruntime", 1))) as predictor:
        result = predictor.predict(image)
    assert [predictor.model.card.classes[index].name for index in result.classes] == ["green"]
    assert np.abs(result.boxes[0] - [30, 20, 77, 61]).max() <= 1


def test_rfdetr_is_fed_as_it_was_trained_and_shows_its_columns(tmp_path: Path) -> None:
    found = look(file_of(tmp_path, GraphSpec("rfdetr", mean=0.45, std=0.22, batch=1)))
    assert (found.card.layout, len(found.card.classes)) == ("rfdetr", RFDETR_COLUMNS)
    assert found.card.input.mean == pytest.approx((0.485, 0.456, 0.406))
    assert found.card.input.letterbox == "stretch"
    assert has_note(found, "ImageNet")
    assert [(one.name, one.shape) for one in found.outputs] == [("dets", (None, 3, 4)), ("labels", (None, 3, 91))]
    load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime", 1)).close()


def test_values_that_the_file_lacks_are_listed_as_assumed(tmp_path: Path) -> None:
    path = file_of(tmp_path, GraphSpec("nms_inside"))
    found = look(path)
    assert has_note(found, "classes: the file does not name them, nor how many they are; correct the 80")
    assert has_note(found, "RGB, pixels 0 to 1, centred letterbox")
    assert has_note(found, "licence: unknown")
    assert (found.card.name, found.card.version, found.card.licence) == ("my-model", "1.0.0", "unknown")
    assert found.card.sha256 == sha256(path.read_bytes()).hexdigest()
    assert found.about.opset == 17
    text = write_card(found, tmp_path).read_text()
    assert text.startswith("# Assumed: ")
    assert "class_79" in text


def test_values_that_the_file_states_are_not_assumed(tmp_path: Path) -> None:
    metadata = {**NAMES, "license": "MIT", "imgsz": "[128, 128]"}
    found = look(file_of(tmp_path, GraphSpec("yolov8", dynamic=True, metadata=metadata)))
    assert (found.card.licence, [one.name for one in found.card.classes]) == ("MIT", list(CLASS_NAMES))
    assert (found.card.input.width, found.card.input.height) == (128, 128)
    assert not any(has_note(found, text) for text in ("input size", "classes", "licence"))


def test_an_open_input_size_is_assumed(tmp_path: Path) -> None:
    found = look(file_of(tmp_path, GraphSpec("nms_inside", width=640, height=640, dynamic=True)))
    assert has_note(found, "input size: the file leaves it open, 640×640 is usual")
    # This graph cannot take the usual size.
    path = file_of(tmp_path, GraphSpec("yolov8", width=160, height=96, dynamic=True))
    with pytest.raises(ModelLoadError, match=r"(?s)first run with 640×640 pixels.*--size"):
        look(path)
    found = look(path, size=(160, 96))
    assert (found.card.input.width, found.card.input.height, len(found.card.classes)) == (160, 96, 3)
    assert not has_note(found, "input size")


@pytest.mark.parametrize(("width", "size"), [(128, (256, 128)), (16, None)])
def test_a_size_the_file_or_a_card_cannot_have_is_refused(
    tmp_path: Path, width: int, size: tuple[int, int] | None
) -> None:
    path = file_of(tmp_path, GraphSpec("nms_inside", width=width))
    with pytest.raises(ModelLoadError, match=rf"takes images of {width}×128 pixels; (leave --size out|sides from)"):
        look(path, size=size)


def test_strange_class_names_become_a_card_that_loads(tmp_path: Path) -> None:
    names = {"names": str({0: "car", 1: "car", 2: ""}), "stride": "32"}
    found = look(file_of(tmp_path, GraphSpec("yolov8", metadata=names)))
    assert [one.name for one in found.card.classes] == ["car (0)", "car (1)", "class (2)"]
    odd = {"names": "{0: 'half\\ud800', 1: 'two\\nlines', 2: '\\x1b[2Jclear'}"}
    found = look(file_of(tmp_path, GraphSpec("yolov8", metadata=odd)))
    assert [one.name for one in found.card.classes] == ["half?", "two lines", "[2Jclear"]
    gaps = {"names": str({0: "car", 1: "bus", 2: "boat", 7: "kite"})}
    found = look(file_of(tmp_path, GraphSpec("nms_inside", metadata=gaps)))
    assert found.card.class_ids == (0, 1, 2, 7)
    load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime", 1)).close()


@pytest.mark.parametrize(
    ("spec", "names", "text"),
    [
        (GraphSpec("yolox", channels="bgr", scale=1.0), (), "--layout yolox (YOLOX as it is exported by default"),
        (GraphSpec("yolov8"), ("a", "b"), "yolov8 with 2 classes has one output"),
        (
            GraphSpec("yolov8", fault="two_outputs"),
            (),
            "outputs output0 (N, 7, 336), output1 (N, 7, 336), and that fits no",
        ),
        (GraphSpec("yolov8", metadata={"task": "segment"}), (), "task 'segment'"),
        (GraphSpec("yolov8", fault="zero_scores"), (), "score 0 everywhere"),
        (GraphSpec("yolov8", fault="nan"), (), "not numbers"),
        (GraphSpec("yolov8", fault="other_input"), (), "takes 2 inputs (images, prompt)"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, spec: GraphSpec, names: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ModelLoadError) as caught:
        look(file_of(tmp_path, spec), None, names)
    assert text in str(caught.value)


def test_weights_next_to_the_file_get_a_checksum(tmp_path: Path) -> None:
    model = onnx.load_from_string(build(GraphSpec("yolov8", metadata=NAMES)))
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=100)
    found = look(path)
    assert found.card.files == {"model.onnx.data": sha256((tmp_path / "model.onnx.data").read_bytes()).hexdigest()}
    loaded = load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime"))
    loaded.close()
    with (tmp_path / "model.onnx.data").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelLoadError, match=r"model\.onnx\.data has SHA-256"):
        load_model(LoadRequest(tmp_path / "model.yaml", "onnxruntime"))


def test_an_existing_card_is_not_overwritten(tmp_path: Path) -> None:
    found = look(file_of(tmp_path, GraphSpec("yolov8", metadata=NAMES)))
    (tmp_path / "model.yaml").write_text("mine")
    with pytest.raises(ModelLoadError, match="exists and is not changed"):
        write_card(found, tmp_path)
    assert (tmp_path / "model.yaml").read_text() == "mine"
    with pytest.raises(ModelLoadError, match="cannot be written"):
        write_card(found, tmp_path / "gone")


def test_a_card_that_cannot_be_written_as_a_whole_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = look(file_of(tmp_path, GraphSpec("yolov8", metadata=NAMES)))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(Path, "replace", fail)
        with pytest.raises(ModelLoadError, match="No space left"):
            write_card(found, tmp_path)
    assert write_card(found, tmp_path).read_text().endswith("\n")


def test_the_model_that_ships_needs_no_guesses_but_its_input() -> None:
    shipped = default_card_path()
    found = look(shipped.parent / "model.onnx")
    card = read_card(shipped)
    assert (found.card.layout, found.card.input, found.card.sha256) == (card.layout, card.input, card.sha256)
    assert [one.name for one in found.card.classes] == [one.name for one in card.classes]


@pytest.mark.parametrize("origin", ["built", "real"])
def test_yolox_layout_is_recognised_by_running_the_file(origin: str, tmp_path: Path) -> None:
    path = tmp_path / "yolox.onnx"
    path.write_bytes(real_file("yolox_nano_416.onnx").read_bytes() if origin == "real" else build_yolox())
    found = look(path)
    assert (found.card.layout, found.card.input.width, len(found.card.classes)) == ("yolox", 416, 80)
    assert found.card.input.channels == "bgr"
    expected = (
        "layout: found by a run (not yolox_decoded: the numbers are grid offsets (layout yolox), not pixels, because"
    )
    assert has_note(found, expected)
    load_model(LoadRequest(write_card(found, tmp_path), "onnxruntime", 1)).close()


def test_the_verb_prints_writes_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DETECTOR__ENGINE", "onnxruntime")
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path))
    # The separate process has a test of its own.
    monkeypatch.setattr(inspect_process, "inspect_in_process", inspect_process._run)
    path = str(file_of(tmp_path, GraphSpec("rtdetr", metadata={"names": "['red', 'green', 'blue']"})))
    run = CliRunner().invoke
    text = run(app, ["model", "inspect", path])
    assert text.exit_code == 0, text.output
    for part in ("rtdetr (RT-DETRv2 and D-FINE)", "orig_target_sizes int64 (?, 2)", "3: red, green, blue", "assumed"):
        assert part in text.output
    assert not (tmp_path / "model.yaml").exists()
    written = run(app, ["model", "inspect", path, "--write", "--json"])
    fields = orjson.loads(written.stdout)
    assert fields["written"] == str(tmp_path / "model.yaml")
    assert fields["card"]["layout"] == "rtdetr"
    assert fields["outputs"][1] == {"name": "boxes", "type": "float32", "shape": [None, 3, 4]}
    assert read_card(tmp_path / "model.yaml").class_ids is None
    again = run(app, ["model", "inspect", path, "--write"])
    assert isinstance(again.exception, ModelLoadError)
    assert "--name" in str(again.exception)
    second = run(app, ["model", "inspect", path, "--write", "--name", "other", "--json"])
    assert orjson.loads(second.stdout)["written"] == str(tmp_path / "other.yaml")
    assert read_card(tmp_path / "other.yaml").name == "other"
    wrong = run(app, ["model", "inspect", path, "--write", "--name", "../x"])
    assert "--name ../x: no name of a model" in str(wrong.exception)
    wrong = run(app, ["model", "inspect", path, "--layout", "yolo99"])
    assert isinstance(wrong.exception, SettingsError)
    assert "yolov8, yolov5" in str(wrong.exception)
    other = run(app, ["model", "inspect", path, "--layout", "yolov5", "--classes", "a, b"])
    assert "yolov5 with 2 classes" in str(other.exception)
    other = run(app, ["model", "inspect", path, "--classes", "a, b"])
    assert "names 3 classes (red, green, blue), the card 2" in str(other.exception)
    wrong = run(app, ["model", "inspect", path, "--size", "640"])
    assert "--size 640: not a size" in str(wrong.exception)
    wrong = run(app, ["model", "inspect", path, "--size", "9" * 5_000 + "x640"])
    assert "not a size" in str(wrong.exception)
