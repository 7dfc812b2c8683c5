"""Checks that rules, where there are some, have no errors and an engine that runs them."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.card.card import default_card_path, read_card
from detectors.rules.engines.choice import why_no_engine
from detectors.rules.rules_file import RulesError, RulesFile, read_rules
from detectors.settings import DetectorSettings
from infra.texts import counted
from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok, problem, warning


class RulesCheck:
    """Reads the rules of the settings and of the model card."""

    subject = "rules"

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        return await in_thread(self._look)

    def _look(self) -> Sequence[Finding]:
        try:
            rules = self._rules()
        except RulesError as error:
            return [problem(str(error), "correct the rules; standgale rules check FILE explains each error")]
        why = why_no_engine(self._settings.rules_engine)
        if rules is None:
            return [ok("none are used" if why is None else f"none are used, and {why}")]
        if why is not None:
            return [problem(f"{rules.name} gives no rulings: {why}", "install an engine for rules; docs/rules.md")]
        about = f"{rules.name}: {counted(len(rules.program.rules), 'rule')} without errors"
        warnings = [warning(f"{rules.name}, {one}", "correct the rules") for one in rules.warnings]
        return [ok(about), *warnings]

    def _rules(self) -> RulesFile | None:
        """Return the rules that a worker uses for frames of no job. Raises RulesError."""
        path = self._settings.model or default_card_path()
        card = read_card(path)
        labels = [one.name for one in card.classes]
        if self._settings.rules is not None:
            return read_rules(self._settings.rules, labels)
        if card.rules is None or not self._settings.use_model_rules:
            return None
        return read_rules(path.parent / card.rules, labels)
