"""Counts what a running replay does, for the progress bar and the lines of its log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ingest.replay.port import Totals


@dataclass(slots=True)
class Progress:
    """Holds the counts of this run; the event loop writes them, and anyone may read them."""

    done: int = 0
    """Items of this run: accepted, known or refused"""
    before: int = 0
    """Items that earlier runs did"""
    accepted: int = 0
    known: int = 0
    refused: int = 0
    size_bytes: int = 0
    totals: Totals | None = None
    """How much the source has; None while it is not known"""
    waits: dict[str, str] = field(default_factory=dict)
    """What it waits for: source, store, broker, backlog"""
    notes: list[str] = field(default_factory=list)
    """What is to be known when it has ended"""
    began_s: float = field(default_factory=time.monotonic)

    def wait(self, what: str, reason: str | None) -> None:
        """Note that it waits for ``what``; None: it does no longer."""
        if reason is None:
            self.waits.pop(what, None)
        else:
            self.waits[what] = reason

    @property
    def per_s(self) -> float:
        """Items per second since the start of this run."""
        return self.done / max(time.monotonic() - self.began_s, 0.001)

    @property
    def left_s(self) -> float | None:
        """How long it will take at this speed; None while that is not known."""
        if self.totals is None or not self.done:
            return None
        return max(0, self.totals.items - self.before - self.done) / self.per_s
