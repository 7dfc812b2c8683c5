"""Chooses the engine for rules: Trealla where it is there, else SWI-Prolog."""

from __future__ import annotations

from pathlib import Path

from detectors.rules.engines import swi, trealla
from detectors.rules.engines.port import RulesEngine
from detectors.settings import RulesEngineKind
from infra.errors import SettingsError


def open_rules_engine(kind: RulesEngineKind, cache: Path | None = None) -> RulesEngine:
    """Open an engine; ``cache``: where Trealla keeps its compiled form. Raises SettingsError when none can be used."""
    if kind == "trealla":
        return trealla.TreallaEngine(cache)
    if kind == "swi":
        return swi.SwiEngine()
    without_trealla = trealla.why_unavailable()
    if without_trealla is None:
        return trealla.TreallaEngine(cache)
    without_swi = swi.why_unavailable()
    if without_swi is None:
        return swi.SwiEngine()
    raise SettingsError(f"no engine for rules: Trealla: {without_trealla}; SWI-Prolog: {without_swi}")
