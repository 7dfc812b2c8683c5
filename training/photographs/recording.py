"""Writes figures of photographs, and confidences chosen on them, into a model's card and README."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from training.card import Card, CardError, CardValue, class_summary, edited, part, rounded
from training.photographs.evaluate import PhotographEvaluation
from training.photographs.thresholds import Choice

BEGIN, END = "<!-- photographs: begin -->", "<!-- photographs: end -->"
"""The lines of a README between which the tables are."""


def record_photographs(path: Path, evaluation: PhotographEvaluation) -> None:
    """Put the figures of photographs into a card's `training.evaluated.photographs`, with the sources of the sets."""
    sets: Card = {
        name: {label: class_summary(one) for label, one in figures.classes.items()}
        for name, figures in evaluation.sets.items()
    }
    unlabelled: Card = {
        name: {"megapixels": round(one.megapixels, 1), "boxes_per_megapixel": {**rounded(**one.per_megapixel)}}
        for name, one in evaluation.unlabelled.items()
    }
    sources: Card = {name: {"origin": one.origin, "licence": one.licence} for name, one in evaluation.sources.items()}
    with edited(path) as card:
        part(card, "training", "evaluated")["photographs"] = {
            "split": evaluation.split,
            "sets": sets,
            "unlabelled": unlabelled,
            "sources": sources,
        }


def record_choices(path: Path, choices: Mapping[str, Choice], tested: Collection[str]) -> None:
    """Put the confidence of each class into a card, and whether it was tested on photographs or on drawn scenes only.

    Raises CardError when the card has no such class.
    """
    with edited(path) as card:
        classes = card["classes"]
        by_name = {one["name"]: one for one in classes if isinstance(one, dict)} if isinstance(classes, list) else {}
        for name, choice in choices.items():
            if name not in by_name:
                raise CardError(f"{path} has no class {name}; it has {', '.join(map(str, by_name))}")
            by_name[name].update(confidence=choice.confidence, evidence="photographs" if name in tested else "drawn")
        chosen: dict[str, CardValue] = {
            name: {
                "goal_reached": one.reached,
                "objects": one.things,
                **rounded(
                    precision=one.precision,
                    recall=one.recall,
                    false_per_megapixel=one.false_per_megapixel,
                    false_per_megapixel_elsewhere=one.other_false_per_megapixel,
                ),
            }
            for name, one in choices.items()
        }
        part(card, "training")["confidences_chosen_on"] = chosen


def replace_tables(readme: Path, tables: str) -> None:
    """Write the tables of an evaluation between the two marked lines of a README. Raises CardError without them."""
    text = readme.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise CardError(f"{readme} has no lines {BEGIN} and {END}; add them where the tables belong")
    readme.write_text(f"{before}{BEGIN}\n\n{tables}\n{END}{after}", encoding="utf-8")
