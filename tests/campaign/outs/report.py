"""Prints the lag of every sink in each phase, what there was, and all problems; the last line is JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.outs.lag import Lag
from tests.campaign.outs.reconcile import OutsAccount

_SHOWN = 20


@dataclass(frozen=True)
class Phase:
    """Says what happened in one phase."""

    name: str
    faults: int
    seconds: float
    """How long the fault lasted"""
    caught_up_s: float
    """How long it took afterwards until no sink was behind by more than without a fault"""
    lags: Mapping[str, Lag]
    """Of each sink, from the begin of the fault until all have caught up"""
    hits: frozenset[str] = frozenset()
    """The sinks that use what was broken"""

    def above(self, *quiet: Phase) -> dict[str, int]:
        """Return the healthy sinks whose lag was above that of all ``quiet`` phases, and by how many records."""
        healthy = sorted(set(self.lags) - self.hits)
        found = {name: self.lags[name].most - max(each.lags[name].most for each in quiet) for name in healthy}
        return {name: more for name, more in found.items() if more > 0}

    def figures(self, *quiet: Phase) -> dict[str, object]:
        """Return what the last line has of this phase; ``quiet`` are those without a fault."""
        return {
            "name": self.name,
            "faults": self.faults,
            "seconds": round(self.seconds, 1),
            "caught_up_s": round(self.caught_up_s, 1),
            "hits": sorted(self.hits),
            "lag": {name: vars(lag) for name, lag in self.lags.items()},
            "above_quiet": self.above(*quiet),
        }


@dataclass
class OutsReport:
    """The result of one campaign."""

    broker: str
    seed: int
    logs: Path
    phases: list[Phase] = field(default_factory=list)
    """The first and the last one have no fault"""
    account: OutsAccount = field(default_factory=OutsAccount)
    ended: list[str] = field(default_factory=list)
    """Processes that ended unexpectedly"""
    odd_responses: list[str] = field(default_factory=list)
    """Responses of the gateway other than 202, 429 and 503"""
    errors: list[str] = field(default_factory=list)
    """Errors of the campaign itself"""
    unready: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def problems(self) -> dict[str, list[str]]:
        """All problems, by kind."""
        account = self.account
        found = {
            "lost": [f"{name}: {', '.join(places)}" for name, places in account.lost.items()],
            "doubled": [f"{name}: {', '.join(places)}" for name, places in account.doubled.items()],
            "out of order": [f"{name}: {', '.join(places)}" for name, places in account.out_of_order.items()],
            "unexpected": account.unexpected,
            "different": account.different,
            "dead letters of sinks": account.dead_letters,
            "unexpected exits": self.ended,
            "unexpected responses": self.odd_responses,
            "the campaign's own errors": self.errors,
            "not ready at the end": [f"{name}: {text}" for name, text in self.unready.items()],
        }
        return {kind: lines for kind, lines in found.items() if lines}

    def print(self) -> None:
        """Print everything."""
        for line in lag_table(self.phases):
            print(line)
        for title, counts in (("found", self.account.counts), ("again, with the same id", self.account.again)):
            print(f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        for kind, lines in self.problems.items():
            print(f"{kind}: {len(lines)}")
            for line in lines[:_SHOWN]:
                print(f"  {line}")
        print(f"logs: {self.logs}")
        print(json.dumps(self.figures()), flush=True)

    def figures(self) -> dict[str, object]:
        """Return the figures of the last line."""
        return {
            "broker": self.broker,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "found": self.account.counts,
            "again": self.account.again,
            "problems": {kind: len(lines) for kind, lines in self.problems.items()},
            "phases": [phase.figures(self.phases[0], self.phases[-1]) for phase in self.phases],
        }


def lag_table(phases: Sequence[Phase]) -> list[str]:
    """Return the table of lags, as Markdown: of each sink 95th percentile / largest; in brackets where it was hit."""
    if not phases:
        return []
    sinks = list(phases[0].lags)
    lines = [["phase", "faults", "s", "caught up after s", *sinks], ["---"] * (len(sinks) + 4)]
    for phase in phases:
        cells = {name: f"{lag.p95} / {lag.most}" for name, lag in phase.lags.items()}
        shown = [f"({cells[name]})" if name in phase.hits else cells[name] for name in sinks]
        lines.append([phase.name, str(phase.faults), f"{phase.seconds:.0f}", f"{phase.caught_up_s:.1f}", *shown])
    return ["| " + " | ".join(line) + " |" for line in lines]
