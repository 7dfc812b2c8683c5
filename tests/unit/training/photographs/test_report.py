"""Evaluations on photographs as JSON and as tables, and what of them goes into a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from training.card import CardError
from training.figures import SIZES_PX, ClassFigures, SizeFigures
from training.photographs.evaluate import PhotographEvaluation, SetFigures, UnlabelledFigures
from training.photographs.folder import Source
from training.photographs.recording import record_choices, record_photographs, replace_tables
from training.photographs.report import as_json, tables
from training.photographs.thresholds import Choice

NAN = float("nan")


def evaluation(version: str, recall: float) -> PhotographEvaluation:
    sizes = {name: SizeFigures(0, NAN, NAN, NAN, NAN) for name, _, _ in SIZES_PX}
    sizes["32-64"] = SizeFigures(4, 0.75, recall, 0.5, 0.25)
    cars = ClassFigures(2, 4, 3, 1, 1, 0.5, 0.75, recall, 0.5, 0.25, sizes)
    return PhotographEvaluation(
        model="small",
        version=version,
        sha256="0" * 64,
        confidences={"vehicle": 0.5, "bird": 0.6},
        options={},
        split="test",
        sources={"roads": Source("somewhere.", "CC BY 4.0.")},
        sets={"roads": SetFigures(2, 2.0, {"vehicle": cars}, {"bird": 3}, 0.5, 0.25)},
        unlabelled={
            "dunes": UnlabelledFigures(1, 10.0, True, {"vehicle": 1, "bird": 2}, {"vehicle": 0.1, "bird": NAN})
        },
    )


def test_two_models_are_side_by_side_in_each_cell() -> None:
    text = tables([evaluation("2.0.0", 1.0), evaluation("1.0.0", 0.25)])
    assert "Each cell: small 2.0.0 / small 1.0.0." in text
    assert "| roads | vehicle | 2 | 4 | 0.75 / 0.75 | 1.00 / 0.25 |" in text
    assert "| roads | vehicle | 1.0.0 | – | – | 0.75 / 0.25 / 0.50 (4) | – | – |" in text
    assert "| dunes | 1 | 10 | none of the classes | 0.10 / 0.10 |" in text
    assert "- roads: somewhere. Licence: CC BY 4.0." in text


def test_json_has_null_for_what_cannot_be_measured() -> None:
    (one,) = json.loads(as_json([evaluation("1.0.0", NAN)]))
    assert one["sets"]["roads"]["classes"]["vehicle"]["recall"] is None
    assert one["sets"]["roads"]["classes"]["vehicle"]["sizes"]["32-64"]["things"] == 4


def test_a_card_keeps_its_other_figures_and_gets_those_of_photographs(tmp_path: Path) -> None:
    card = tmp_path / "model.yaml"
    card.write_text("training: {evaluated: {map50_tiled: 0.9}}\n")
    record_photographs(card, evaluation("1.0.0", 1.0))
    evaluated = yaml.safe_load(card.read_text())["training"]["evaluated"]
    assert evaluated["map50_tiled"] == 0.9
    photographs = evaluated["photographs"]
    assert photographs["sets"]["roads"]["vehicle"]["sizes_px"] == {
        "32-64": {"objects": 4, "recall": 1.0, "map50": 0.5, "map50_95": 0.25}
    }
    assert photographs["unlabelled"]["dunes"] == {"megapixels": 10.0, "boxes_per_megapixel": {"vehicle": 0.1}}
    assert photographs["sources"]["roads"] == {"origin": "somewhere.", "licence": "CC BY 4.0."}


def test_a_class_gets_its_confidence_and_what_it_was_tested_on(tmp_path: Path) -> None:
    card = tmp_path / "model.yaml"
    card.write_text("classes: [{name: vehicle}, {name: bird}]\ntraining: {}\n")
    choice = Choice(0.7, True, 0, NAN, NAN, 10.0, 0.1, 10.0, 0.2)
    record_choices(card, {"vehicle": choice, "bird": choice}, ["vehicle"])
    content = yaml.safe_load(card.read_text())
    assert content["classes"] == [
        {"name": "vehicle", "confidence": 0.7, "evidence": "photographs"},
        {"name": "bird", "confidence": 0.7, "evidence": "drawn"},
    ]
    assert content["training"]["confidences_chosen_on"]["bird"] == {
        "goal_reached": True,
        "objects": 0,
        "false_per_megapixel": 0.1,
        "false_per_megapixel_elsewhere": 0.2,
    }
    with pytest.raises(CardError, match="has no class plane; it has vehicle, bird"):
        record_choices(card, {"plane": choice}, [])


def test_tables_replace_what_is_between_the_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- photographs: begin -->\nold\n<!-- photographs: end -->\nZ\n")
    replace_tables(readme, "| new |\n")
    replace_tables(readme, "| newer |\n")
    assert readme.read_text() == "# A\n<!-- photographs: begin -->\n\n| newer |\n\n<!-- photographs: end -->\nZ\n"
    readme.write_text("# A\n")
    with pytest.raises(CardError, match="add them where the tables belong"):
        replace_tables(readme, "")
