"""What a campaign found, for people line by line, and for programs as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.reconcile import Account

_SHOWN = 20


@dataclass
class Report:
    """The outcome of one campaign."""

    broker: str
    seed: int
    logs: Path
    seconds: float = 0.0
    faults: Mapping[str, int] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    attempts: int = 0
    """How often devices sent, repetitions included."""
    ended: list[str] = field(default_factory=list)
    """Processes that ended though nobody ended them."""
    odd_answers: list[str] = field(default_factory=list)
    """What gateways answered that is none of accepted, too much at once, and not available."""
    errors: list[str] = field(default_factory=list)
    """What the campaign itself could not do."""
    unready: Mapping[str, str] = field(default_factory=dict)
    """What processes said that were not ready at the end, when all was well again."""

    @property
    def problems(self) -> dict[str, list[str]]:
        """All that is wrong, by what it is."""
        account = self.account
        found = {
            "lost": [f"{name}: {', '.join(places)}" for name, places in account.lost.items()],
            "doubled": [f"{name}: {', '.join(places)}" for name, places in account.doubled.items()],
            "out of order": [f"{name}: {', '.join(places)}" for name, places in account.out_of_order.items()],
            "dead letters": account.dead_letters,
            "never accepted": account.strangers,
            "ended by itself": self.ended,
            "odd answers": self.odd_answers,
            "the campaign's own errors": self.errors,
            "not ready at the end": [f"{name}: {text}" for name, text in self.unready.items()],
        }
        return {what: lines for what, lines in found.items() if lines}

    def print(self) -> None:
        """Say what is wrong, then the figures; the last line is JSON."""
        for what, lines in self.problems.items():
            print(f"{what}: {len(lines)}")
            for line in lines[:_SHOWN]:
                print(f"  {line}")
        print(f"logs: {self.logs}")
        print(json.dumps(self.figures()), flush=True)

    def figures(self) -> dict[str, object]:
        """The figures of the last line."""
        account = self.account
        return {
            "accepted": account.accepted,
            "lost": len(account.lost),
            "doubled": len(account.doubled),
            "out_of_order": len(account.out_of_order),
            "dead_letters": len(account.dead_letters),
            "ended": len(self.ended),
            "other_problems": sum(map(len, (account.strangers, self.odd_answers, self.errors, self.unready))),
            "sent": self.attempts,
            "faults": dict(sorted(self.faults.items())),
            "seconds": round(self.seconds, 1),
            "seed": self.seed,
            "broker": self.broker,
        }
