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
    why = why_no_engine(kind)
    if why is not None:
        raise SettingsError(why)
    return swi.SwiEngine() if trealla.why_unavailable() is not None else trealla.TreallaEngine(cache)


def why_no_engine(kind: RulesEngineKind) -> str | None:
    """Return why no engine of ``kind`` can be used, with what to do; None if one can."""
    reasons = {"Trealla": trealla.why_unavailable(), "SWI-Prolog": swi.why_unavailable()}
    wanted = {"trealla": ["Trealla"], "swi": ["SWI-Prolog"]}.get(kind, list(reasons))
    if any(reasons[name] is None for name in wanted):
        return None
    return "no engine for rules can be used: " + "; ".join(f"{name}: {reasons[name]}" for name in wanted)
