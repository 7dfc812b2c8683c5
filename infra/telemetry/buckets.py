"""Defines the buckets of histograms, and limits how many values a label can have.

The rules of all metrics: each package defines its own, as constants of its module ``metrics``, with the name written
out in full. All labels are bounded: a label whose values come from outside has a limit, and beyond it further values
share ``other``. Counters count after success only. A gauge that only some processes set carries a label, so that a
process which never sets it exports no false zero.
"""

from __future__ import annotations

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COUNTS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
OTHER = "other"
"""The label of all values beyond the limit."""


class BoundedLabel:
    """Limits a label to the first ``limit`` values; later ones become ``other``."""

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the label for ``value``."""
        if value not in self._seen:
            if len(self._seen) >= self._limit:
                return OTHER
            self._seen.add(value)
        return value
