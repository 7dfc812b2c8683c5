"""INT8 versions of small models: accepted when they find the same boxes, else refused without a trace."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnx
import orjson
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from detectors.card.card import default_card_path, read_card
from detectors.card.onnx_file import read_onnx_file
from detectors.geometry.arrays import Candidates
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from standgale.cli import app
from standgale.testing.graphs import COLOURS_BGR, GraphSpec, build, write_asked_model, write_model
from training.quantize import quantize as quantizing
from training.quantize.comparing import agreement
from training.quantize.errors import QuantizeError
from training.quantize.graph import plans
from training.quantize.plan_result import QuantizeRequest
from training.quantize.quantize import quantize
from training.quantize.tiles import read_samples
from training.scenes import SceneSpec, render_scene

KEEPS = [(1.0, 0.0)]
# The first layer's numbers differ by thousandths at a hundred, which no whole number of 8 bits tells apart.
LOSES_BEFORE_THE_LAST = [(0.001, 100.0), (1000.0, -100_000.0)]
LOSES_EARLY = [*LOSES_BEFORE_THE_LAST, (1.0, 0.0), (1.0, 0.0)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(quantizing, "_SPEED_S", 0.02)
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))


def with_layers(data: bytes, layers: list[tuple[float, float]], opset: int = 17) -> bytes:
    """The model ``data`` with a convolution in front for each factor and offset, the last feeding what images fed.

    The convolutions come behind what makes scaled float images of other ones.
    """
    model = onnx.load_from_string(data)
    source, front = "images", []
    while model.graph.node[len(front)].op_type in ("Cast", "Transpose", "Mul"):
        front.append(model.graph.node[len(front)])
        source = front[-1].output[0]
    fed, rest = source, list(model.graph.node)[len(front) :]
    for number, (factor, offset) in enumerate(layers):
        weights = (np.eye(3) * factor).astype(np.float32).reshape(3, 3, 1, 1)
        constants = {"w": weights, "b": np.full(3, offset, np.float32)}
        model.graph.initializer.extend(
            numpy_helper.from_array(value, f"{key}{number}") for key, value in constants.items()
        )
        front.append(helper.make_node("Conv", [source, f"w{number}", f"b{number}"], [f"layer{number}"]))
        source = f"layer{number}"
    for node in rest:
        node.input[:] = [source if name == fed else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*front, *rest])
    onnx.checker.check_model(model)
    model.opset_import[0].version = opset
    return model.SerializeToString()


def model_of(folder: Path, layers: list[tuple[float, float]], spec: GraphSpec | None = None) -> Path:
    wanted = spec or GraphSpec("nms_inside")
    write = write_asked_model if wanted.layout == "grounding_dino" else write_model
    return replaced(write(folder / "1.0.0", wanted), with_layers(build(wanted), layers))


def replaced(card: Path, data: bytes) -> Path:
    (card.parent / "model.onnx").write_bytes(data)
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), "sha256": sha256(data).hexdigest()}))
    return card


def frames_of(folder: Path, count: int = 4, things: bool = True) -> Path:
    """``count`` frames of 3 × 3 tiles with rectangles of each colour in each of them."""
    folder.mkdir()
    for number in range(count):
        image = np.zeros((256, 256, 3), np.uint8)
        for at in range(9 if things else 0):
            top, left = 90 * (at // 3), 90 * (at % 3)
            for index, colour in enumerate(COLOURS_BGR):
                image[top + 20 : top + 34 + number, left + 20 * index + 4 : left + 20 * index + 18] = colour
        cv2.imwrite(str(folder / f"{number}.png"), image)
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.parametrize("target", ["cpu", "every"])
def test_int8_with_the_same_boxes_becomes_a_new_version(tmp_path: Path, target: str) -> None:
    card = model_of(tmp_path / "rectangles", KEEPS)
    frames = frames_of(tmp_path / "frames")
    arguments = ["model", "quantize", str(card), "--frames", str(frames), "--target", target, "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    made = orjson.loads(done.stdout)
    assert (made["accepted"], made["version"], made["target"]) == (True, "1.0.0+int8", target)
    assert (made["calibration_tiles"], made["held_out_tiles"], made["frames"]) == (18, 18, 4)
    assert [each["engine"] for each in made["best"]["engines"]] == ["openvino", "onnxruntime"]
    assert all(
        each["tiles_per_s_int8"] > 0 and each["boxes_f32"] == each["boxes_int8"] for each in made["best"]["engines"]
    )
    written = tmp_path / "rectangles" / "1.0.0+int8" / "model.yaml"
    assert made["card"] == str(written)
    new, old = read_card(written), read_card(card)
    assert new.training["quantized_from"] == {"version": "1.0.0", "sha256": old.sha256}
    assert isinstance(new.training["int8"], dict) and new.training["int8"]["calibration_tiles"] == 18
    assert (new.name, new.classes, new.input, new.sha256 != old.sha256) == (old.name, old.classes, old.input, True)
    graph = onnx.load(written.parent / "model.onnx").graph
    assert {node.op_type for node in graph.node} >= {"QuantizeLinear", "DequantizeLinear"}
    image = cv2.imread(str(frames / "3.png"))
    assert image is not None
    for engine in ("openvino", "onnxruntime"):
        found = []
        for each in (card, written):
            with Predictor(load_model(LoadRequest(each, engine, 1, "f32"))) as predictor:  # type: ignore[arg-type]
                found.append(predictor.predict(image.astype(np.uint8)))
        assert len(found[0]) >= 20
        assert np.abs(found[0].boxes - found[1].boxes).max() <= 1
    assert sorted(each.name for each in written.parent.parent.iterdir()) == ["1.0.0", "1.0.0+int8"]


@pytest.mark.parametrize(
    ("target", "spec"),
    [
        ("cpu", GraphSpec("nms_inside", kind="uint8", scales_itself=True)),
        ("every", GraphSpec("nms_inside", channels_last=True)),
        ("cpu", GraphSpec("nms_inside", kind="uint8", scales_itself=True, channels_last=True, batch=4)),
        ("every", GraphSpec("nms_inside", kind="float16", channels_last=True)),
    ],
)
def test_models_of_bytes_or_with_channels_last_become_int8_of_the_same_input(
    tmp_path: Path, target: Literal["cpu", "every"], spec: GraphSpec
) -> None:
    card = model_of(tmp_path / "model", KEEPS, spec)
    made = quantize(QuantizeRequest(card, frames_of(tmp_path / "frames"), target=target, threads=1))
    assert made.accepted and made.card is not None, made
    assert [(each.boxes_f32, each.boxes_int8, each.loss) for each in made.best.engines] == [(54, 54, 0.0)] * 2
    old, new = (read_onnx_file(each.parent / "model.onnx").inputs for each in (card, made.card))
    assert (new[0].type, new[0].shape) == (old[0].type, old[0].shape)
    assert read_card(made.card).input == read_card(card).input


def test_layers_that_lose_too_much_in_int8_stay_in_float(tmp_path: Path) -> None:
    card = model_of(tmp_path / "model", LOSES_BEFORE_THE_LAST)
    made = quantize(QuantizeRequest(card, frames_of(tmp_path / "frames"), target="every", threads=1))
    assert [(each.words, each.loss) for each in made.outcomes] == [
        ("every layer is quantized", 1.0),
        ("the last layers stay in float", 0.0),
    ]
    assert made.accepted and made.best.words == "the last layers stay in float"


@pytest.mark.parametrize("target", ["cpu", "every"])
def test_int8_that_loses_boxes_is_refused_and_leaves_no_files(tmp_path: Path, target: str) -> None:
    card = model_of(tmp_path / "model", LOSES_EARLY)
    frames = frames_of(tmp_path / "frames")
    arguments = ["model", "quantize", str(card), "--frames", str(frames), "--target", target, "--max-loss", "0.5"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output
    assert "refused, nothing was written" in done.output
    assert [each.name for each in card.parent.parent.iterdir()] == ["1.0.0"]
    fields = orjson.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (fields["accepted"], fields["card"], fields["best"]["loss"]) == (False, None, 1.0)


def test_text_prompted_model_is_calibrated_with_its_prompt(tmp_path: Path) -> None:
    card = model_of(tmp_path / "model", KEEPS, GraphSpec("grounding_dino", batch=4))
    made = quantize(QuantizeRequest(card, frames_of(tmp_path / "frames"), output=tmp_path / "new", target="every"))
    assert made.card == tmp_path / "new" / "model.yaml" and made.best.loss == 0
    assert (tmp_path / "new" / "tokenizer.json").is_file()


def test_shipped_model_finds_the_same_in_int8(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(4):
        scene = render_scene(SceneSpec(1152, 1152, 940_000 + number, density=3.0))
        cv2.imwrite(str(frames / f"{number}.png"), scene.image)
    made = quantize(QuantizeRequest(default_card_path(), frames, max_loss=0.05, output=tmp_path / "int8"))
    assert "score 0 everywhere" in str(made.outcomes[0].failed)
    assert made.accepted, made
    assert made.best.words != "every layer is quantized"
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 0.5 * (
        default_card_path().parent / "model.onnx"
    ).stat().st_size


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"frames": "gone"}, "cannot be read (No such file or directory); give a folder with pictures"),
        ({"count": 1}, "holds 1 pictures"),
        ({"things": False}, "the f32 model finds 0 things on the 18 tiles"),
        ({"broken": True}, "correct it, or move it out of the folder"),
        ({"small": True}, "gives 2 tiles to calibrate and 2 to measure with; 8 of each"),
        ({"output": "frames"}, "is there already and stays as it is"),
        ({"output": "no/such/folder"}, "cannot be written (No such file or directory); give another --output"),
        ({"opset": 12}, "is of opset 12; export it with opset 13 or later"),
        ({"layers": []}, "has no layer that could be quantized"),
    ],
)
def test_unsuitable_model_or_frames_are_refused(tmp_path: Path, change: dict[str, object], text: str) -> None:
    layers = KEEPS if "layers" not in change else []
    card = model_of(tmp_path / "model", layers)  # type: ignore[arg-type]
    if "opset" in change:
        replaced(card, with_layers(build(GraphSpec("nms_inside")), KEEPS, 12))
    frames = frames_of(tmp_path / "frames", 1 if "count" in change else 4, "things" not in change)
    if "broken" in change:
        (frames / "1.png").write_bytes((frames / "1.png").read_bytes()[:200])
    if "small" in change:
        for each in frames.glob("*.png"):
            cv2.imwrite(str(each), np.zeros((64, 64, 3), np.uint8))
    output = tmp_path / str(change["output"]) if "output" in change else None
    folder = tmp_path / str(change.get("frames", "frames"))
    with pytest.raises(QuantizeError) as caught:
        quantize(QuantizeRequest(card, folder, output=output))
    assert text in str(caught.value)
    assert [each.name for each in card.parent.parent.iterdir()] == ["1.0.0"]


def test_int8_or_float16_model_is_refused(tmp_path: Path) -> None:
    card = model_of(tmp_path / "model", KEEPS)
    frames = frames_of(tmp_path / "frames")
    made = quantize(QuantizeRequest(card, frames))
    assert made.card is not None
    with pytest.raises(QuantizeError, match="is quantized already"):
        quantize(QuantizeRequest(made.card, frames, output=tmp_path / "again"))
    model = onnx.load(card.parent / "model.onnx")
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT16, [1], [1.0]))
    with pytest.raises(QuantizeError, match="is in half precision"):
        quantize(QuantizeRequest(replaced(card, model.SerializeToString()), frames, output=tmp_path / "again"))


def test_tiles_are_the_same_each_time_and_frames_are_in_one_part_only(tmp_path: Path) -> None:
    frames = frames_of(tmp_path / "frames", 5)
    model = load_model(LoadRequest(model_of(tmp_path / "model", KEEPS), "onnxruntime", 1))
    one, two = (read_samples(frames, model, 10**8) for _ in range(2))
    assert (one.calibration == two.calibration).all() and (one.held_out == two.held_out).all()
    assert (len(one.calibration), len(one.held_out), one.frames) == (27, 18, 5)
    # Frames differ by the height of their rectangles.
    assert {int(tile[20:60, 4].any(axis=1).sum()) for tile in one.calibration[::9]} == {14, 16, 18}
    assert {int(tile[20:60, 4].any(axis=1).sum()) for tile in one.held_out[::9]} == {15, 17}
    model.close()


def test_agreement_ignores_order_and_counts_other_boxes() -> None:
    def found(*rows: tuple[float, float, int, int]) -> Candidates:
        boxes = np.array([[left, 0, left + 10, 10] for left, _, _, _ in rows], np.float32).reshape(-1, 4)
        scores, classes, tiles = (np.array([row[at] for row in rows]) for at in (1, 2, 3))
        return Candidates(
            boxes,
            scores.astype(np.float32),
            classes.astype(np.int32),
            tiles.astype(np.int32),
            np.zeros(len(rows), bool),
        )

    both = found((0, 0.9, 0, 0), (50, 0.8, 1, 0), (0, 0.7, 0, 1))
    turned = found((0, 0.7, 0, 1), (1, 0.6, 0, 0), (50, 0.9, 1, 0))
    assert agreement(both, turned, (0.5, 0.5)) == 1
    # Another class, another tile, too far away, missing.
    for other in ((50, 0.8, 0, 0), (50, 0.8, 1, 1), (56, 0.8, 1, 0)):
        assert agreement(both, found((0, 0.9, 0, 0), other, (0, 0.7, 0, 1)), (0.5, 0.5)) == pytest.approx(2 / 3)
    assert agreement(both, found((0, 0.9, 0, 0), (0, 0.7, 0, 1)), (0.5, 0.5)) == pytest.approx(4 / 5)
    # A little below the confidence is as good as above it; far below is lost.
    near, far = (found((0, 0.9, 0, 0), (50, score, 1, 0), (0, 0.7, 0, 1)) for score in (0.46, 0.4))
    assert agreement(both, near, (0.5, 0.5)) == agreement(near, both, (0.5, 0.5)) == 1
    assert agreement(both, far, (0.5, 0.5)) == pytest.approx(4 / 5)
    assert agreement(found(), found(), (0.5, 0.5)) == 1
    # A class with a confidence of its own: its box does not reach it, so that it is not missed.
    assert agreement(both, found((0, 0.9, 0, 0), (0, 0.7, 0, 1)), (0.5, 0.85)) == 1


def test_plans_keep_more_layers_in_float_from_the_outputs_on(tmp_path: Path) -> None:
    model = onnx.load(model_of(tmp_path, [(1.0, 0.0)] * 4).parent / "model.onnx")
    for number, node in enumerate(model.graph.node):
        node.name = str(number)
    assert [sorted(plan.kept) for plan in plans(model, "every")] == [[], ["3"], ["2", "3"]]
    sizes = [len(plan.kept) for plan in plans(model, "cpu")]
    assert sizes == [0, len(model.graph.node) - 4, len(model.graph.node) - 3, len(model.graph.node) - 2]
