"""Prints the result of a campaign: problems line by line for people, and one line of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.reconcile import Account

_SHOWN = 20


@dataclass
class CampaignReport:
    """The result of one campaign."""

    broker: str
    seed: int
    logs: Path
    seconds: float = 0.0
    faults: Mapping[str, int] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    attempts: int = 0
    """The number of requests of all devices, repetitions included."""
    ended: list[str] = field(default_factory=list)
    """Unexpected exits of processes."""
    odd_responses: list[str] = field(default_factory=list)
    """Responses of gateways other than 202, 429 and 503."""
    errors: list[str] = field(default_factory=list)
    """Errors of the campaign itself."""
    unready: Mapping[str, str] = field(default_factory=dict)
    """Readiness reports of processes that were not ready after all faults had ended."""

    @property
    def problems(self) -> dict[str, list[str]]:
        """All problems, by kind."""
        account = self.account
        found = {
            "lost": [f"{name}: {', '.join(places)}" for name, places in account.lost.items()],
            "doubled": [f"{name}: {', '.join(places)}" for name, places in account.doubled.items()],
            "out of order": [f"{name}: {', '.join(places)}" for name, places in account.out_of_order.items()],
            "dead letters": account.dead_letters,
            "never accepted": account.unexpected,
            "unexpected exits": self.ended,
            "unexpected responses": self.odd_responses,
            "the campaign's own errors": self.errors,
            "not ready at the end": [f"{name}: {text}" for name, text in self.unready.items()],
        }
        return {kind: lines for kind, lines in found.items() if lines}

    def print(self) -> None:
        """Print the problems, then the figures; the last line is JSON."""
        for kind, lines in self.problems.items():
            print(f"{kind}: {len(lines)}")
            for line in lines[:_SHOWN]:
                print(f"  {line}")
        print(f"logs: {self.logs}")
        print(json.dumps(self.figures()), flush=True)

    def figures(self) -> dict[str, object]:
        """Return the figures of the last line."""
        account = self.account
        return {
            "accepted": account.accepted,
            "lost": len(account.lost),
            "doubled": len(account.doubled),
            "out_of_order": len(account.out_of_order),
            "dead_letters": len(account.dead_letters),
            "ended": len(self.ended),
            "other_problems": sum(map(len, (account.unexpected, self.odd_responses, self.errors, self.unready))),
            "sent": self.attempts,
            "faults": dict(sorted(self.faults.items())),
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "broker": self.broker,
        }
