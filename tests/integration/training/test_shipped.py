"""Checks that the shipped model agrees with its card, and finds objects in unseen scenes."""

import json
from itertools import pairwise

import numpy as np
import onnx
import pytest

from detectors.card.card import default_card_path, read_card, verified_model_file
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from training.evaluate import EvaluateSettings, EvaluationError, as_json, detect_with, measure_scenes, table
from training.metrics import Predictions
from training.pool import EVALUATION_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from training.scenes import CLASS_NAMES, SceneSpec


def test_card_and_file_belong_together_and_are_small() -> None:
    path = default_card_path()
    card = read_card(path)
    file = verified_model_file(card, path)
    assert file.stat().st_size <= 8_000_000
    assert tuple(one.name for one in card.classes) == CLASS_NAMES
    props = {prop.key: prop.value for prop in onnx.load(file).metadata_props}
    assert props["names"] == str(dict(enumerate(CLASS_NAMES)))
    assert props["task"] == "detect"


def test_card_records_how_the_model_was_made_and_measured() -> None:
    training = read_card(default_card_path()).training
    assert {"command", "seeds", "scenes", "steps", "evaluated"} <= set(training)
    evaluated = training["evaluated"]
    assert isinstance(evaluated, dict)
    tiled, whole = evaluated["map50_tiled"], evaluated["map50_whole"]
    assert isinstance(tiled, float)
    assert isinstance(whole, float)
    assert tiled >= 0.8
    assert tiled >= 2 * whole
    assert evaluated["scenes"] == 60


def test_seeds_of_training_validation_and_evaluation_are_disjoint() -> None:
    ranges = sorted((TRAIN_SEEDS, VALIDATION_SEEDS, EVALUATION_SEEDS), key=lambda seeds: seeds.start)
    assert all(first.stop <= second.start for first, second in pairwise(ranges))


def test_shipped_model_finds_most_objects_in_unseen_scenes() -> None:
    specs = [SceneSpec(960, 720, VALIDATION_SEEDS[-1 - index], 3.0) for index in range(3)]
    with Predictor(load_model(LoadRequest(None, "onnxruntime", threads=1))) as predictor:
        confidence = predictor.model.card.thresholds.confidence
        done: list[int] = []
        found = measure_scenes(specs, detect_with(predictor), confidence, done.append)
    assert done == [1, 2, 3]
    assert found.tiled.recall > 0.6
    assert found.tiled.precision > 0.6


def test_an_evaluation_without_objects_is_valid_json_with_nulls() -> None:
    nothing = Predictions(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty = measure_scenes([SceneSpec(64, 64, 1, 0.0)], lambda image, tiled: (nothing, nothing), 0.5, lambda done: None)
    assert json.loads(as_json(empty))["tiled"]["map50"] is None
    assert "bird" in table(empty)


def test_evaluation_uses_its_seeds_and_refuses_zero_scenes() -> None:
    card = default_card_path()
    assert [spec.seed for spec in EvaluateSettings(card, scenes=2).specs()] == list(EVALUATION_SEEDS[:2])
    assert EvaluateSettings(card, scenes=1, validation=True).specs()[0].seed == VALIDATION_SEEDS[0]
    with pytest.raises(EvaluationError, match="scenes is 0"):
        EvaluateSettings(card, scenes=0).specs()
