"""Checks models that find objects by words: prompt, inputs, decoding of the outputs, and wrong cards."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from detectors.card.card import InputCard, ModelCard, read_card
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.inputs import constant_inputs
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray
from detectors.heads.classes import ClassNumbers
from detectors.heads.layouts.grounding_dino import GroundingDinoHead
from detectors.heads.port import HeadRequest, PromptTokens
from detectors.heads.text import Prompt, read_prompt
from detectors.model.inspect import inspect_model, write_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from schemas.events import DetectOptions
from standgale.testing.graphs import (
    ASKED_NAMES,
    COLOURS_BGR,
    SCORES,
    VOCABULARY,
    GraphSpec,
    write_asked_model,
    write_model,
    write_tokenizer,
)

ENGINES = ("openvino", "onnxruntime")
HUGGING_FACE = GraphSpec("grounding_dino")
ORIGINAL = GraphSpec("grounding_dino", original=True, batch=1)
SPECS = {
    "hugging-face": HUGGING_FACE,
    "original": ORIGINAL,
    "wide-fixed-text-turned": GraphSpec("grounding_dino", width=160, height=96, tokens=24, batch=3, turned=True),
    "original-fixed-text": GraphSpec("grounding_dino", tokens=256, original=True, mean=0.45, std=0.22),
}
SEVENTY = tuple(" ".join(words) for words in product(("red", "big", "green", "blue", "boat"), repeat=3))[:70]
RECTANGLES = {0: (30, 40, 60, 71), 1: (150, 30, 195, 60), 2: (330, 200, 371, 250)}


def frame(width: int, height: int, rectangles: Mapping[int, tuple[int, int, int, int]]) -> ImageArray:
    image = np.zeros((height, width, 3), np.uint8)
    for index, (left, top, right, bottom) in rectangles.items():
        image[top:bottom, left:right] = COLOURS_BGR[index]
    return image


def prompt_of(card: Path) -> Prompt:
    prompt = read_prompt(read_card(card), card)
    assert prompt is not None
    return prompt


def refused(card: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(LoadRequest(card, "onnxruntime", 1))
    return str(caught.value)


def changed(card: Path, **fields: object) -> Path:
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), **fields}))
    return card


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_text_model_finds_requested_classes_in_every_tile(tmp_path: Path, spec: GraphSpec, engine: Any) -> None:
    card = write_asked_model(tmp_path, spec)
    image = frame(400, 300, RECTANGLES)
    with Predictor(load_model(LoadRequest(card, engine, 1))) as predictor:
        found = predictor.predict(image)
        assert sorted(found.classes.tolist()) == [0, 1, 2]
        for box, score, index in zip(found.boxes, found.scores, found.classes.tolist(), strict=True):
            assert np.abs(box - RECTANGLES[index]).max() <= 1
            assert score == pytest.approx(SCORES[index], abs=0.01)
        # Larger tiles are scaled down into the input, and the boxes back up.
        larger = predictor.predict(image, DetectOptions(tile_width=240, tile_height=160))
        assert sorted(larger.classes.tolist()) == [0, 1, 2]
        for box, index in zip(larger.boxes, larger.classes.tolist(), strict=True):
            assert np.abs(box - RECTANGLES[index]).max() <= 2.5


def test_the_prompt_decides_what_is_found(tmp_path: Path) -> None:
    image = frame(128, 128, {0: (10, 10, 30, 30), 1: (40, 40, 60, 60), 2: (80, 80, 100, 100)})
    for names, expected in ((("blue", "reddish"), [0, 1]), (("big green",), [0]), (("boat",), [])):
        card = write_asked_model(tmp_path / names[0], HUGGING_FACE, names)
        with Predictor(load_model(LoadRequest(card, "onnxruntime", 1))) as predictor:
            found = predictor.predict(image)
            assert sorted(found.classes.tolist()) == expected
            if expected == [0, 1]:
                assert found.boxes[found.classes == 0].tolist() == [[80, 80, 100, 100]]


def test_a_prompt_of_a_request_takes_the_place_of_the_card(tmp_path: Path) -> None:
    """C-S1-035."""
    image = frame(128, 128, {0: (10, 10, 30, 30), 1: (40, 40, 60, 60), 2: (80, 80, 100, 100)})
    card = write_asked_model(tmp_path, HUGGING_FACE, ("boat",))
    model = load_model(LoadRequest(card, "onnxruntime", 1, prompt="Blue .  reddish."))
    with Predictor(model) as predictor:
        found = predictor.predict(image)
    names = [model.card.classes[index].name for index in found.classes.tolist()]
    assert sorted(names) == ["Blue", "reddish"]
    assert (model.card.name, model.card.version) == (read_card(card).name, read_card(card).version)
    for prompt, text in ((" . ", "names nothing"), ("blue . Blue", "twice"), ("x" * 200, "100 characters")):
        with pytest.raises(ModelLoadError, match=text):
            load_model(LoadRequest(card, "onnxruntime", 1, prompt=prompt))
    plain = write_model(tmp_path / "plain")
    with pytest.raises(ModelLoadError, match="takes no prompt"):
        load_model(LoadRequest(plain, "onnxruntime", 1, prompt="bird"))


def test_a_prompt_is_lower_case_and_every_class_knows_its_tokens(tmp_path: Path) -> None:
    prompt = prompt_of(write_asked_model(tmp_path, HUGGING_FACE))
    assert prompt.text == "reddish . big green . blue ."
    words = [VOCABULARY[number] for number in prompt.ids]
    assert words == ["[CLS]", "red", "##dish", ".", "big", "green", ".", "blue", ".", "[SEP]"]
    assert prompt.spans == ((1, 3), (4, 6), (7, 8))
    assert prompt.padded(12).tolist() == [*prompt.ids, 0, 0]
    assert prompt.mask(12).tolist() == [True] * 10 + [False] * 2
    assert prompt.positions(12).tolist() == [0, 0, 1, 2, 0, 1, 2, 0, 1, 0, 0, 0]
    seen = prompt.attention(12)
    assert seen.sum(axis=1).tolist() == [1, 3, 3, 3, 3, 3, 3, 2, 2, 1, 1, 1]
    assert (seen == seen.T).all() and not seen[3, 4]


def test_inputs_have_the_types_and_lengths_the_file_states(tmp_path: Path) -> None:
    path = write_asked_model(tmp_path, SPECS["original-fixed-text"])
    file = tmp_path / "model.onnx"
    found = constant_inputs(read_onnx_file(file), InputCard(width=128, height=128), file, prompt_of(path))
    assert {name: (value.dtype.name, value.shape) for name, value in found.items()} == {
        "input_ids": ("int64", (256,)),
        "token_type_ids": ("int64", (256,)),
        "attention_mask": ("bool", (256,)),
        "position_ids": ("int64", (256,)),
        "text_token_mask": ("bool", (256, 256)),
    }
    write_asked_model(tmp_path, HUGGING_FACE)
    found = constant_inputs(read_onnx_file(file), InputCard(width=128, height=128), file, prompt_of(path))
    assert found["input_ids"].shape == (10,)
    assert (found["pixel_mask"].shape, int(found["pixel_mask"].min())) == ((128, 128), 1)


def head(spans: tuple[tuple[int, int], ...] = ((1, 3), (4, 5)), threshold: float = 0.25) -> GroundingDinoHead:
    words = PromptTokens(spans, 7, threshold)
    return GroundingDinoHead(HeadRequest(100, 50, ClassNumbers(len(spans)), ("logits", "pred_boxes"), words))


def answers(*rows: list[float]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits of one tile from scores, -inf behind them, and a box of 20 × 10 pixels at 50, 25 for each query."""
    scores = np.array(rows, np.float32)
    logits = np.full((1, len(rows), 16), -np.inf, np.float32)
    logits[0, :, : scores.shape[1]] = np.log(scores / (1 - scores))
    return logits, np.full((1, len(rows), 4), [0.5, 0.5, 0.2, 0.2], np.float32)


def test_a_box_is_of_the_class_whose_best_word_scores_best() -> None:
    outputs = answers(
        [0.9, 0.3, 0.6, 0.99, 0.5, 0.9, 0.9],
        [0.9, 0.3, 0.4, 0.99, 0.45, 0.9, 0.9],
        [0.9, 0.1, 0.1, 0.99, 0.2, 0.9, 0.9],
        [0.1, 0.7, 0.1, 0.1, 0.7, 0.1, 0.1],
    )
    found = head().decode(outputs, 0.3)
    assert found.classes.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.6, 0.45, 0.7])
    assert found.boxes.tolist() == [[40, 20, 60, 30]] * 3
    # Less than the confidence, or no word that belongs to the box.
    assert head().decode(outputs, 0.65).scores.tolist() == pytest.approx([0.7])
    assert head().decode(outputs, 0.1).scores.tolist() == pytest.approx([0.6, 0.45, 0.7])
    assert head(threshold=0.5).decode(outputs, 0.1).scores.tolist() == pytest.approx([0.6, 0.7])
    assert len(head().decode(outputs, -np.inf).scores) == 4


def test_text_head_drops_nan_scores_and_accepts_minus_infinity() -> None:
    logits, boxes = answers([0.1, 0.9, 0.1, 0.1, 0.1])
    logits[0, 0, 2] = -np.inf
    assert head().decode((logits, boxes), 0.5).scores.tolist() == pytest.approx([0.9])
    logits[0, 0, 1:5] = -np.inf
    assert head().decode((logits, boxes), -np.inf).scores.tolist() == [0]
    logits[0, 0, 0] = np.nan
    assert len(head().decode((logits, boxes), 0.0).scores) == 0
    logits[0, 0, 4] = np.nan
    with pytest.raises(InferenceError, match="scores are not numbers"):
        head().decode((logits, boxes), 0.5)
    logits[0, 0, 4] = 5
    with pytest.raises(InferenceError, match="boxes are not numbers"):
        head().decode((logits, boxes * np.nan), 0.5)


def test_a_head_needs_its_outputs_and_room_for_every_token() -> None:
    assert head().mismatch([(2, 900, 256), (2, 900, 4)]) is None
    for shapes in ([(2, 900, 6), (2, 900, 4)], [(2, 900, 256), (2, 901, 4)], [(2, 900, 256), (2, 900, 5)]):
        assert "asked with 7 tokens has outputs logits (N, Q, 7 or more)" in str(head().mismatch(shapes))
    other = GroundingDinoHead(
        HeadRequest(100, 50, ClassNumbers(1), ("scores", "boxes"), PromptTokens(((1, 2),), 4, 0.2))
    )
    assert other.mismatch([(2, 900, 256), (2, 900, 4)]) is not None
    silent = GroundingDinoHead(HeadRequest(100, 50, ClassNumbers(1), ("logits", "boxes")))
    assert "text: {tokenizer: tokenizer.json}" in str(silent.mismatch([(2, 900, 256), (2, 900, 4)]))


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("red boat", "drone"), "knows no word for 'drone'"),
        (("red \N{HELICOPTER}",), "or not all of its words"),
        (("\N{ZERO WIDTH SPACE}",), "knows no word for"),
        (("blue. boat",), "has a full stop or question mark"),
        (("what?",), "has a full stop or question mark"),
        (("Blue", "blue "), "'blue' is asked for twice"),
        (SEVENTY, "70 names are 282 tokens of text, the model reads 256"),
    ],
)
def test_names_that_cannot_be_asked_for_are_refused(tmp_path: Path, names: tuple[str, ...], text: str) -> None:
    assert text in refused(write_asked_model(tmp_path, HUGGING_FACE, names))


def test_a_longer_prompt_than_the_file_takes_is_refused(tmp_path: Path) -> None:
    spec = GraphSpec("grounding_dino", tokens=9)
    assert "takes 9 tokens, the names of the card's classes are 10" in refused(write_asked_model(tmp_path, spec))


def test_a_tokenizer_that_is_missing_damaged_or_another_is_refused(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path, HUGGING_FACE)
    path = tmp_path / "tokenizer.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert "is damaged or no tokenizer" in refused(card)
    path.unlink()
    assert f"text.tokenizer in {card}) cannot be read (No such file or directory); put the" in refused(card)
    path.write_bytes(whole)
    assert "correct files.tokenizer.json if" in refused(changed(card, files={"tokenizer.json": "0" * 64}))


def test_a_tokenizer_that_is_not_berts_is_refused(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path, HUGGING_FACE, ("blue", "red"))
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    brackets = tokenizer.post_processor
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer.save(str(path))
    assert "does not split text as BERT does" in refused(card)
    tokenizer.post_processor = brackets
    tokenizer.pre_tokenizer = pre_tokenizers.Split("none of this", "isolated")
    tokenizer.save(str(path))
    assert "does not split text as BERT does" in refused(card)
    # Full stops are gone before the text is split.
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Replace(".", "")
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = brackets
    tokenizer.save(str(path))
    assert "does not split text as BERT does" in refused(card)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = write_asked_model(tmp_path, HUGGING_FACE)
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "install the extra text of standgale" in refused(card)


def test_cards_and_files_that_do_not_agree_on_words_are_refused(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path / "asked", HUGGING_FACE)
    fields = yaml.safe_load(card.read_text())
    del fields["text"]
    card.write_text(yaml.safe_dump(fields))
    assert "write text: {tokenizer: tokenizer.json} and put the tokenizer.json" in refused(card)
    del fields["layout"]
    card.write_text(yaml.safe_dump(fields))
    assert "takes text (input input_ids): write layout: grounding_dino" in refused(card)
    other = write_model(tmp_path / "other")
    write_tokenizer(other.parent)
    text = {"tokenizer": "tokenizer.json"}
    assert "layout yolov8 takes no text prompt; leave text out" in refused(changed(other, text=text))
    unnamed = changed(other, layout=None, classes=[{"name": "blue"}, {"name": "red"}, {"name": "boat"}])
    assert "takes no text (it has no input input_ids)" in refused(unnamed)


def test_without_a_layout_it_is_recognised_by_its_names(tmp_path: Path) -> None:
    card = changed(write_asked_model(tmp_path, HUGGING_FACE), layout=None)
    load_model(LoadRequest(card, "onnxruntime", 1)).close()


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (GraphSpec("grounding_dino", fault="zero_scores"), "score 0 everywhere"),
        (GraphSpec("grounding_dino", fault="nan"), "not numbers"),
        (GraphSpec("grounding_dino", fault="other_input"), "one image is expected, besides it at most"),
        (GraphSpec("grounding_dino", fault="float_sizes"), "takes input_ids as float16"),
        (GraphSpec("grounding_dino", fault="two_outputs"), "grounding_dino asked with 10 tokens has outputs"),
    ],
)
def test_text_model_with_broken_graph_is_refused_by_inputs_or_first_run(
    tmp_path: Path, spec: GraphSpec, text: str
) -> None:
    assert text in refused(write_asked_model(tmp_path, spec))


def test_a_mask_of_another_size_than_the_card_is_refused(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path, HUGGING_FACE)
    assert "takes pixel_mask as [None, 128, 128]" in refused(changed(card, input={"width": 64, "height": 64}))


def test_inspect_writes_a_card_that_asks(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path, GraphSpec("grounding_dino", mean=0.45, std=0.22))
    card.unlink()
    file = tmp_path / "model.onnx"
    found = inspect_model(file, names=ASKED_NAMES, engine="onnxruntime")
    assert found.card.layout == "grounding_dino"
    assert found.card.input.letterbox == "stretch"
    assert found.card.input.mean == pytest.approx((0.485, 0.456, 0.406))
    assert any("text: the tokenizer is the tokenizer.json beside the file" in each for each in found.assumed)
    written = write_card(found, tmp_path)
    read: ModelCard = read_card(written)
    assert read.text is not None and list(read.files) == ["tokenizer.json"]
    image = frame(128, 128, {1: (20, 30, 60, 71)})
    with Predictor(load_model(LoadRequest(written, "onnxruntime", 1))) as predictor:
        result = predictor.predict(image)
    assert result.classes.tolist() == [1]
    assert np.abs(result.boxes[0] - [20, 30, 60, 71]).max() <= 1
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    assert "correct files.tokenizer.json if" in refused(written)


def test_inspect_model_names_missing_classes_and_tokenizer(tmp_path: Path) -> None:
    card = write_asked_model(tmp_path, HUGGING_FACE)
    file = card.parent / "model.onnx"
    with pytest.raises(ModelLoadError, match="name the objects to find, with --classes"):
        inspect_model(file, engine="onnxruntime")
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"next to the model\) cannot be read \(No such file"):
        inspect_model(file, names=ASKED_NAMES, engine="onnxruntime")
