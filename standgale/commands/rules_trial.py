"""Tries a rules file on a picture for `standgale rules try`: finds, evaluates, and shows before and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectors.card.card import ClassCard, ModelCard
from detectors.geometry.arrays import Detections
from detectors.model.predict import PictureResult, Predictor
from detectors.rules.engines.choice import open_rules_engine
from detectors.rules.engines.port import RulesLimits
from detectors.rules.evaluator import RulesEvaluator
from detectors.rules.facts import FrameFacts
from detectors.rules.rules_file import RulesError, RulesFile, read_rules
from detectors.rules.rulings import Ruling, Rulings
from infra.errors import SettingsError
from infra.texts import counted
from schemas.event_base import ModelRef
from standgale.commands.context import Context, table
from standgale.commands.detect_output import OutputFiles, rows_of, write_files
from standgale.commands.detect_pictures import checked_gsd, for_picture
from standgale.picture_models import load_for_pictures
from standgale.pictures import Picture, open_picture

if TYPE_CHECKING:
    from standgale.commands.detect_options import Wanted
    from standgale.settings import Settings

_GREY = "#808080"
_MOST_LISTED = 500
_PAST = {"confirm": "confirmed", "drop": "dropped", "relabel": "relabelled"}


@dataclass(frozen=True, slots=True)
class Trial:
    """Holds what a model found in a picture, and the rulings about it."""

    rules: RulesFile
    card: ModelCard
    engine: tuple[str, str]
    """What ran the model, and why."""
    picture: Picture
    found: PictureResult
    rulings: Rulings


def try_on_picture(here: Context, settings: Settings, file: Path, path: Path, wanted: Wanted) -> Trial:
    """Detect in the picture at ``path``, and evaluate the rules in ``file`` on what was found.

    Raises SettingsError when the rules have errors, and the errors of detecting.
    """
    with open_picture(path, settings.detector.max_pixels) as shown:
        gsd_m = checked_gsd(shown, path, wanted, OutputFiles(None, None))
        with Predictor(load_for_pictures(settings)) as predictor:
            card, engine = predictor.model.card, predictor.model.engine
            labels = [one.name for one in card.classes]
            try:
                rules = read_rules(file, labels)
            except RulesError as error:
                raise SettingsError(f"{error}; `standgale rules check {file}` lists all") from error
            for one in rules.warnings:
                here.notes.print(f"warning: {file}: {one}", style="yellow", markup=False, highlight=False)
            found = predictor.find(shown.source, for_picture(wanted.checked(), shown), gsd_m)
            facts = FrameFacts(
                width=shown.width,
                height=shown.height,
                model=ModelRef(name=card.name, version=card.version),
                gsd_m=gsd_m,
                captured_at=shown.capture.captured_at,
                camera=shown.capture.camera,
            )
            rulings = _evaluated(settings, rules, facts, found.detections, labels)
            return Trial(rules, card, (engine.name, engine.reason), _in_memory(shown, found), found, rulings)


def _evaluated(
    settings: Settings, rules: RulesFile, facts: FrameFacts, detections: Detections, labels: list[str]
) -> Rulings:
    chosen = settings.detector
    evaluator = RulesEvaluator(
        partial(open_rules_engine, chosen.rules_engine, settings.engines_folder),
        RulesLimits(seconds=chosen.max_rules_s),
    )
    try:
        return evaluator.evaluate(rules, facts, detections, labels)
    finally:
        evaluator.close()


def _in_memory(shown: Picture, found: PictureResult) -> Picture:
    """Return ``shown`` as a picture that can be drawn on when its file is closed; a raster is reduced."""
    if shown.image is not None:
        return shown
    image, _ = shown.shown_with(found.detections)
    return replace(shown, image=image, raster=None, ground=None)


def write_trial(files: OutputFiles, trial: Trial) -> None:
    """Draw the detections as they are after the rules; dropped ones in grey with the rule that dropped them."""
    classes = list(trial.card.classes)
    numbers = {one.name: number for number, one in enumerate(classes)}
    chosen = trial.found.detections.classes.copy()
    for number, ruling in sorted(trial.rulings.by_number.items()):
        new = _drawn_class(ruling)
        if new is None:
            continue
        if new.name not in numbers:
            numbers[new.name] = len(classes)
            classes.append(new)
        chosen[number] = numbers[new.name]
    detections = replace(_scaled(trial), classes=chosen.astype(np.int32))
    card = trial.card.model_copy(update={"classes": tuple(classes)})
    write_files(files, trial.picture, replace(trial.found, detections=detections), card)


def _drawn_class(ruling: Ruling) -> ClassCard | None:
    if ruling.kind == "drop":
        return ClassCard(name=f"{ruling.rule.name}: dropped"[:100], color=_GREY)
    return None if ruling.label is None else ClassCard(name=ruling.label)


def _scaled(trial: Trial) -> Detections:
    """Return the detections in the pixels of the picture to draw on."""
    image, found = trial.picture.image, trial.found.detections
    assert image is not None
    share = image.shape[1] / trial.picture.width
    if share == 1:
        return found
    quads = None if found.quads is None else found.quads * np.float32(share)
    return replace(found, boxes=found.boxes * np.float32(share), quads=quads)


def _rows(trial: Trial) -> list[dict[str, object]]:
    rows = rows_of(trial.found, trial.card, None)
    for number, row in enumerate(rows):
        ruling = trial.rulings.by_number.get(number)
        row["ruling"] = None if ruling is None else _PAST[ruling.kind]
        row["rule"] = None if ruling is None else ruling.rule.name
        row["label_after"] = _label_after(str(row["label"]), ruling)
    return rows


def _label_after(label: str, ruling: Ruling | None) -> str | None:
    if ruling is None or ruling.kind == "confirm":
        return label
    return ruling.label


def trial_result(path: Path, trial: Trial) -> dict[str, object]:
    """Return all about the trial on the picture at ``path`` as JSON values."""
    rulings, count = trial.rulings, len(trial.found.detections)
    return {
        "image": str(path),
        "model": trial.card.name,
        "width": trial.picture.width,
        "height": trial.picture.height,
        "gsd_m": trial.found.options.gsd_m,
        "rules": {
            "file": trial.rules.name,
            "sha256": trial.rules.digest,
            "engine": rulings.engine,
            "elapsed_ms": round(rulings.elapsed_ms, 1),
            "problem": rulings.problem,
            "dropped_by_rule": rulings.dropped_by_rule(),
        },
        "before": count,
        "after": len(rulings.kept(count)),
        "detections": _rows(trial),
    }


def print_trial(here: Context, trial: Trial, out: Path | None) -> None:
    """Print each detection with what became of it and why, and how many are left."""
    rows, rulings = _rows(trial), trial.rulings
    shown = table("before", "confidence", "box (x1, y1, x2, y2 in pixels)", "after", "rule")
    for row in rows[:_MOST_LISTED]:
        after = "dropped" if row["label_after"] is None else str(row["label_after"])
        if row["ruling"] == "confirmed":
            after += " (confirmed)"
        shown.add_row(str(row["label"]), str(row["confidence"]), str(row["box"]), after, str(row["rule"] or ""))
    if rows:
        here.out.print(shown)
    if len(rows) > _MOST_LISTED:
        here.notes.print(f"the best {_MOST_LISTED} of {len(rows)}; --json lists all", highlight=False)
    if rulings.problem is not None:
        text = f"the rules gave no rulings, so nothing changes: {rulings.problem}"
        here.notes.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    kept = len(rulings.kept(len(rows)))
    here.out.print(f"{counted(len(rows), 'detection')} before, {kept} after", markup=False, highlight=False)
    for name, count in rulings.dropped_by_rule().items():
        here.out.print(f"  {name} dropped {count}", markup=False, highlight=False)
    notes = f"{rulings.elapsed_ms:.0f} ms for rules{f' in {rulings.engine}' if rulings.engine else ''}"
    here.notes.print(notes, markup=False, highlight=False)
    if out is not None:
        here.notes.print(f"picture written to {out}", markup=False, highlight=False)
