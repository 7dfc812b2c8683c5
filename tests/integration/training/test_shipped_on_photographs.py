"""Checks the shipped model on real pictures that it was not trained on, at its card's own settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detectors.card.card import default_card_path
from detectors.geometry.boxes import iou_matrix
from standgale.cli import app
from tests.paths import real_file
from training.photographs import Photograph, read_photographs
from training.photographs.evaluate import PhotographSettings, evaluate_photographs

_CARS = np.array([[3708, 0, 3992, 188], [3668, 190, 3932, 358], [3840, 388, 4000, 508]], np.float32)
"""The cars of the picture of Brighton, xyxy pixels; the first and the last are cut by its edge."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return real_file("aerial/splits.json").parent


def _some(pictures: tuple[Photograph, ...], every: int) -> tuple[Photograph, ...]:
    return pictures[::every]


@pytest.mark.parametrize(("place", "things"), [("kit-ais", 509), ("minsk", 172)])
def test_vehicles_of_places_never_seen_are_found(folder: Path, place: str, things: int) -> None:
    photographs = read_photographs(folder).only([place])
    test = replace(photographs, pictures=photographs.of("test"))
    found = evaluate_photographs(PhotographSettings(default_card_path()), test, lambda done: None)
    vehicles = found.sets[place].classes["vehicle"]
    assert vehicles.things == things
    assert vehicles.precision >= 0.9
    assert vehicles.recall >= 0.75


def test_pictures_of_dunes_give_few_boxes(folder: Path) -> None:
    photographs = read_photographs(folder)
    dunes = [one for one in photographs.of("unlabelled") if one.set_name == "unlabelled-copr"]
    test = _some(photographs.only(["kit-ais"]).of("test"), 10)
    some = replace(photographs, pictures=(*test, *dunes[1::4]))
    found = evaluate_photographs(PhotographSettings(default_card_path()), some, lambda done: None)
    boxes = found.unlabelled["unlabelled-copr"]
    assert boxes.nothing_there
    assert sum(boxes.boxes.values()) <= 3


def test_detect_finds_the_three_cars_of_a_park_with_few_false_boxes() -> None:
    """Its EXIF has the height, from which the scale follows."""
    picture = real_file("brighton_DJI_0028.jpg")
    ended = CliRunner().invoke(app, ["detect", str(picture), "--json"])
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert [one["scale"] for one in found["scales"]] == [0.25]
    vehicles = [one["box"] for one in found["detections"] if one["label"] == "vehicle"]
    overlap = iou_matrix(_CARS, np.array(vehicles, np.float32).reshape(-1, 4))
    assert (overlap.max(axis=1, initial=0.0) >= 0.5).all()
    assert len(found["detections"]) <= 6
