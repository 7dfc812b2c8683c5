"""Reads what the program of a rules file wrote about a frame: a ruling for each detection that a rule decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from detectors.rules.engines.port import DONE, RulesEngineError
from detectors.rules.language.program import Program, Rule

RulingKind = Literal["confirm", "drop", "relabel"]
_KINDS: tuple[str, ...] = get_args(RulingKind)
_ERROR, _TRYING = "error ", "trying "


@dataclass(frozen=True, slots=True)
class Ruling:
    """Says what a rule decided about a detection."""

    kind: RulingKind
    rule: Rule
    label: str | None = None
    """What the detection is called from now on, where it is relabelled."""


@dataclass(frozen=True, slots=True)
class Rulings:
    """Holds the rulings of a frame by the number of the detection; with a problem there are none."""

    by_number: dict[int, Ruling] = field(default_factory=dict)
    problem: str | None = None
    """Why the rules gave no rulings, with the line of the rule; None where they did."""
    engine: str = ""
    elapsed_ms: float = 0.0

    def kept(self, count: int) -> list[int]:
        """Return the numbers of those of ``count`` detections that no rule dropped."""
        return [number for number in range(count) if not self.drops(number)]

    def drops(self, number: int) -> bool:
        """Return whether a rule dropped detection ``number``."""
        ruling = self.by_number.get(number)
        return ruling is not None and ruling.kind == "drop"

    def dropped_by_rule(self) -> dict[str, int]:
        """Return how many detections each rule dropped, by its name."""
        names = (ruling.rule.name for ruling in self.by_number.values() if ruling.kind == "drop")
        return dict(sorted(Counter(names).items()))


class PrologError(Exception):
    """The program ended with an error of Prolog; the text is its term."""


def read_rulings(output: str, program: Program, count: int, labels: Sequence[str]) -> dict[int, Ruling]:
    """Return the rulings in ``output`` about ``count`` detections; ``labels``: those of the model.

    Raises PrologError when the program ended with one, RulesEngineError when the output is not what programs write.
    """
    if not output.endswith(DONE):
        raise RulesEngineError(f"the rules engine wrote no end: {output[-200:]!r}")
    found: dict[int, Ruling] = {}
    known = {*labels, *program.labels}
    for line in output.removesuffix(DONE).splitlines():
        if line.startswith(_ERROR):
            raise PrologError(line.removeprefix(_ERROR))
        if not line or line.startswith(_TRYING):
            continue
        number, ruling = _ruling(line, program.rules, count)
        if ruling.label is not None and ruling.label not in known:
            raise PrologError(f"no_label({ruling.label},{ruling.rule.name},{number})")
        found[number] = ruling
    return found


def last_tried(output: str, rules: Sequence[Rule]) -> tuple[Rule, int] | None:
    """Return the rule that a traced run tried last, and the number of its detection; None when there is none."""
    for line in reversed(output.splitlines()):
        words = line.split()
        if line.startswith(_TRYING) and len(words) == 3 and words[1].isdigit() and int(words[1]) < len(rules):
            return rules[int(words[1])], int(words[2])
    return None


def _ruling(line: str, rules: Sequence[Rule], count: int) -> tuple[int, Ruling]:
    kind, _, rest = line.partition(" ")
    rule, _, rest = rest.partition(" ")
    number, _, label = rest.partition(" ")
    if kind not in _KINDS or not _below(rule, len(rules)) or not _below(number, count):
        raise RulesEngineError(f"the rules engine wrote {line[:200]!r}, which is no ruling")
    if kind != "relabel":
        return int(number), Ruling("confirm" if kind == "confirm" else "drop", rules[int(rule)])
    return int(number), Ruling("relabel", rules[int(rule)], label)


def _below(text: str, limit: int) -> bool:
    return text.isascii() and text.isdigit() and int(text) < limit
