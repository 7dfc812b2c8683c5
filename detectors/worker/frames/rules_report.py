"""Applies the rulings of a frame to the detections of its event, and reports what was dropped and why."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.card.card import ModelCard
from detectors.rules.rulings import Ruling
from detectors.worker.frames.frame_rules import FrameRulings
from schemas.events import Detection, DroppedDetection, RuleApplied, RulesReport

_LONGEST_PROBLEM, _LONGEST_NAME = 4_000, 255


def class_names(card: ModelCard, made: FrameRulings | None) -> list[str]:
    """Return the labels of class numbers: the classes of ``card``, then the other labels of the rules."""
    names = [one.name for one in card.classes]
    own = set(names)
    return names if made is None else [*names, *(label for label in dict.fromkeys(made.labels) if label not in own)]


def kept_detections(found: Sequence[Detection], made: FrameRulings, card: ModelCard) -> list[Detection]:
    """Return what no rule dropped, in its order, with the rule that confirmed or relabelled it.

    A label that the model does not have has a number behind those of its classes, by its place in the rules file: each
    number has one label, in all frames.
    """
    rulings = made.rulings
    numbers = {name: number for number, name in reversed([*enumerate(class_names(card, made))])}
    kept = []
    for number in rulings.kept(len(found)):
        ruling = rulings.by_number.get(number)
        kept.append(found[number] if ruling is None else _changed(found[number], ruling, numbers))
    return kept


def _changed(detection: Detection, ruling: Ruling, numbers: dict[str, int]) -> Detection:
    if ruling.label is None:
        rule = RuleApplied(name=ruling.rule.name, ruling="confirmed")
        return detection.model_copy(update={"rule": rule})
    rule = RuleApplied(name=ruling.rule.name, ruling="relabelled", former_label=detection.label)
    return detection.model_copy(update={"rule": rule, "label": ruling.label, "class_id": numbers[ruling.label]})


def rules_report(found: Sequence[Detection], made: FrameRulings) -> RulesReport:
    """Return what the rules did with ``found``, the detections of the model."""
    rulings = made.rulings
    dropped = [
        DroppedDetection(**found[number].model_dump(), dropped_by=rulings.by_number[number].rule.name)
        for number in range(len(found))
        if rulings.drops(number)
    ]
    return RulesReport(
        file=made.name[:_LONGEST_NAME],
        sha256=made.digest,
        engine=rulings.engine,
        elapsed_ms=rulings.elapsed_ms,
        dropped=dropped,
        dropped_by_rule=rulings.dropped_by_rule(),
        problem=None if rulings.problem is None else rulings.problem.replace("\0", "\ufffd")[:_LONGEST_PROBLEM],
    )
