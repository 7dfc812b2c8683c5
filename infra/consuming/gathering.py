"""Decides how many more records a consumer waits for before it writes a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from infra.broker.port import InRecord


class Gathering(Protocol):
    """Is for a sink whose batches have a size of their own, or must not cut what belongs together."""

    def wanted(self, records: Sequence[InRecord]) -> int:
        """Return how many more records are wanted in the batch that has ``records``; 0: it is complete.

        Asked again after each poll. A batch is also complete ``batch_wait_s`` after its first record, and when it is
        as large as the settings allow.
        """
        ...
