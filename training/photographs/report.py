"""Writes evaluations on photographs as JSON, and as Markdown tables with two models side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from training.figures import SIZES_PX, ClassFigures, SizeFigures
from training.photographs.evaluate import PhotographEvaluation

JsonValue = float | int | str | None | list["JsonValue"] | tuple["JsonValue", ...] | dict[str, "JsonValue"]
_Number = float | int | None


def without_nan(value: JsonValue) -> JsonValue:
    """Return the same value with None for each figure that could not be measured."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def as_json(evaluations: Sequence[PhotographEvaluation]) -> str:
    """Return the evaluations as a JSON list; figures that cannot be measured are null."""
    return json.dumps([without_nan(asdict(one)) for one in evaluations], allow_nan=False, indent=1)


def write_json(path: Path, evaluations: Sequence[PhotographEvaluation]) -> None:
    """Write the evaluations to a file."""
    path.write_text(as_json(evaluations) + "\n", encoding="utf-8")


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _cells(values: Sequence[str]) -> str:
    """Return one cell for the values of all models; the first model's value is the first."""
    return " / ".join(values)


def tables(evaluations: Sequence[PhotographEvaluation]) -> str:
    """Return Markdown: by set and class, by size, and boxes on unlabelled pictures; models side by side in each cell.

    All evaluations are of the same pictures.
    """
    names = " / ".join(f"{one.model} {one.version}" for one in evaluations)
    parts = [
        f"Each cell: {names}." if len(evaluations) > 1 else f"Model: {names}.",
        "\n".join(_by_class(evaluations)),
        "Precision / recall / AP50 by the longer side of the object in pixels"
        + (", one line per model:" if len(evaluations) > 1 else ":"),
        "\n".join(_by_size(evaluations)),
    ]
    if evaluations[0].unlabelled:
        parts += ["Boxes per megapixel on pictures without labels:", "\n".join(_unlabelled(evaluations))]
    parts += ["The pictures:", "\n".join(_sources(evaluations[0]))]
    return "\n\n".join(parts) + "\n"


def _sources(evaluation: PhotographEvaluation) -> Iterator[str]:
    for set_name, source in evaluation.sources.items():
        yield f"- {set_name}: {source.origin.rstrip('.')}. Licence: {source.licence}"


def _rows(evaluations: Sequence[PhotographEvaluation]) -> Iterator[tuple[str, str, list[ClassFigures]]]:
    """Yield set, class and the figures of each model."""
    for set_name, figures in evaluations[0].sets.items():
        for label in figures.classes:
            yield set_name, label, [one.sets[set_name].classes[label] for one in evaluations]


_COLUMNS: tuple[tuple[str, Callable[[ClassFigures], str]], ...] = (
    ("precision", lambda one: _share(one.precision)),
    ("recall", lambda one: _share(one.recall)),
    ("AP50", lambda one: _share(one.ap50)),
    ("AP50-95", lambda one: _share(one.ap50_95)),
    ("false boxes (at the edge)", lambda one: f"{one.false} ({one.false_at_edge})"),
    ("false per megapixel", lambda one: _share(one.false_per_megapixel)),
)


def _by_class(evaluations: Sequence[PhotographEvaluation]) -> Iterator[str]:
    yield "| set | class | pictures | objects | " + " | ".join(name for name, _ in _COLUMNS) + " |"
    yield "|---" * (4 + len(_COLUMNS)) + "|"
    for set_name, label, rows in _rows(evaluations):
        cells = " | ".join(_cells([text(one) for one in rows]) for _, text in _COLUMNS)
        yield f"| {set_name} | {label} | {rows[0].pictures} | {rows[0].things} | {cells} |"


def _size_cell(figures: SizeFigures) -> str:
    if not figures.things:
        return "–"
    return f"{_share(figures.precision)} / {_share(figures.recall)} / {_share(figures.ap50)} ({figures.things})"


def _by_size(evaluations: Sequence[PhotographEvaluation]) -> Iterator[str]:
    yield "| set | class | model | " + " | ".join(f"{name} px" for name, _, _ in SIZES_PX) + " |"
    yield "|---" * (3 + len(SIZES_PX)) + "|"
    for set_name, label, rows in _rows(evaluations):
        for evaluation, row in zip(evaluations, rows, strict=True):
            cells = " | ".join(_size_cell(row.sizes[name]) for name, _, _ in SIZES_PX)
            yield f"| {set_name} | {label} | {evaluation.version} | {cells} |"


def _unlabelled(evaluations: Sequence[PhotographEvaluation]) -> Iterator[str]:
    first = evaluations[0].unlabelled
    classes = list(next(iter(first.values())).boxes)
    yield "| set | pictures | megapixels | shows | " + " | ".join(classes) + " |"
    yield "|---" * (4 + len(classes)) + "|"
    for set_name, figures in first.items():
        shows = "none of the classes" if figures.nothing_there else "not stated"
        cells = " | ".join(
            _cells([f"{one.unlabelled[set_name].per_megapixel[label]:.2f}" for one in evaluations]) for label in classes
        )
        yield f"| {set_name} | {figures.pictures} | {figures.megapixels:.0f} | {shows} | {cells} |"
