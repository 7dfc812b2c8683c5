"""Measures the shipped model on a small folder of pictures, with the code that measures photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from detectors.card.card import default_card_path, read_card
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Predictor
from schemas.events import DetectOptions
from training.evaluate import detect_with, main
from training.metrics import Truth, measure
from training.photographs import PhotographError, read_photographs
from training.photographs.choose import main as choose_main
from training.photographs.command import options_of
from training.photographs.evaluate import PhotographSettings, PictureDetector, evaluate_photographs
from training.pool import VALIDATION_SEEDS
from training.scenes import CLASS_NAMES, Scene, SceneSpec, render_scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(SceneSpec(640, 480, VALIDATION_SEEDS[-1 - number], 3.0)) for number in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, scenes: list[Scene]) -> Path:
    """Return a folder of photographs: one scene to test on, one to choose on, and grass without anything."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES))
    for name in ("drawn/images", "drawn/labels", "unlabelled-grass/images"):
        (root / name).mkdir(parents=True)
    (root / "drawn/README.md").write_text(
        "Origin: this test.\nLicence: Apache-2.0.\nClasses labelled throughout: vehicle boat.\n"
    )
    (root / "unlabelled-grass/README.md").write_text("Nothing of the four classes seen.")
    for name in ("a.png", "b.png"):
        grass = np.full((256, 256, 3), (60, 110, 80), np.uint8)
        assert cv2.imwrite(str(root / "unlabelled-grass/images" / name), grass)
    splits = {}
    for scene, split in zip(scenes, ("test", "val"), strict=True):
        splits[f"drawn/images/{split}.png"] = (split, split)
        assert cv2.imwrite(str(root / f"drawn/images/{split}.png"), scene.image)
        middles = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2 / (640, 480)
        sides = (scene.boxes[:, 2:] - scene.boxes[:, :2]) / (640, 480)
        lines = [" ".join(map(str, (int(c), *m, *s))) for c, m, s in zip(scene.labels, middles, sides, strict=True)]
        (root / f"drawn/labels/{split}.txt").write_text("\n".join(lines))
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def test_figures_agree_with_those_of_drawn_scenes(folder: Path, scenes: list[Scene]) -> None:
    done: list[int] = []
    settings = PhotographSettings(default_card_path(), engine="onnxruntime", options=DetectOptions(scales=(1.0,)))
    found = evaluate_photographs(settings, read_photographs(folder), done.append)
    assert done == [1, 2, 3]
    with Predictor(load_model(LoadRequest(None, "onnxruntime", threads=1))) as predictor:
        own, low = detect_with(predictor)(scenes[0].image, True)
        as_detect = predictor.predict(scenes[0].image)
        confidences = predictor.model.card.confidences
    assert (own.boxes.tolist(), own.scores.tolist()) == (as_detect.boxes.tolist(), as_detect.scores.tolist())
    assert low.scores.min() < min(confidences)
    truth = Truth(scenes[0].boxes, scenes[0].labels)
    expected = measure([(low, truth)], CLASS_NAMES, confidences, [(own, truth)])
    assert any(row.objects for row in expected.classes[:2])
    figures = found.sets["drawn"]
    assert set(figures.classes) == {"vehicle", "boat"}
    assert set(figures.unjudged) == {"person", "bird"}
    for row in expected.classes[:2]:
        got = figures.classes[row.name]
        assert got.things == row.objects
        if row.objects:
            assert (got.recall, got.precision) == pytest.approx((row.recall, row.precision))
            assert got.ap50 == pytest.approx(row.ap50, abs=0.02)
    assert repr(found.sets["all"]) == repr(figures)
    assert found.unlabelled["unlabelled-grass"].nothing_there
    assert found.sources["drawn"].licence == "Apache-2.0."


def test_figures_and_confidences_are_written_into_a_copied_card(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(default_card_path().parent, tmp_path / "model")
    card, readme = tmp_path / "model/model.yaml", tmp_path / "README.md"
    readme.write_text("# A model\n<!-- photographs: begin -->\nold\n<!-- photographs: end -->\nThe end.\n")
    common = ["--card", str(card), "--engine", "onnxruntime"]
    files = ["--json", str(tmp_path / "out.json"), "--markdown", str(tmp_path / "out.md"), "--readme", str(readme)]
    words = ["evaluate", "--photographs", str(folder), "--beside", str(default_card_path()), "--record"]
    monkeypatch.setattr("sys.argv", [*words, *common, *files, "--set", "drawn", "--option", "overlap=0.1"])
    main()
    assert "| drawn | vehicle | 1 |" in capsys.readouterr().out
    evaluations = json.loads((tmp_path / "out.json").read_text())
    assert [one["options"] for one in evaluations] == [{"overlap": 0.1}] * 2
    assert (tmp_path / "out.md").read_text() in readme.read_text()
    assert "old" not in readme.read_text()
    monkeypatch.setattr("sys.argv", ["choose", str(folder), *common, "--record", "--precision", "0.5"])
    choose_main()
    written = read_card(card)
    evaluated = yaml.safe_load(card.read_text())["training"]["evaluated"]
    assert evaluated["photographs"]["sources"]["drawn"]["origin"] == "this test."
    assert evaluated["map50_tiled"] == pytest.approx(0.8, abs=0.2)
    assert [one.evidence for one in written.classes] == ["photographs", "drawn", "drawn", "drawn"]
    assert all(one >= 0.05 for one in written.confidences)


def test_a_model_without_any_class_of_the_folder_is_refused() -> None:
    with Predictor(load_model(LoadRequest(None, "onnxruntime", threads=1))) as predictor:
        with pytest.raises(PhotographError, match=r"the photographs plane: no class in common"):
            PictureDetector(predictor, ["plane"], DetectOptions())
        detector = PictureDetector(predictor, ["bird", "plane"], DetectOptions())
    assert detector.known(2).tolist() == [True, False]


def test_options_are_those_of_detection() -> None:
    assert options_of(["scales=[1, 0.5]", "overlap=0.1"]) == DetectOptions(scales=(1.0, 0.5), overlap=0.1)
    for text, expected in (
        ("overlapp=0.1", "unknown; give one of confidence, "),
        ("overlap=2", "overlap: Input should be less than 0.9"),
        ("overlap=a lot", "is no JSON"),
    ):
        with pytest.raises(PhotographError, match=f"--option .*{expected}"):
            options_of([text])
