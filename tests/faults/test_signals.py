"""Commands that are stopped at random moments of their start end quietly, in time, and leave no process."""

from __future__ import annotations

import pytest

from tests.faults.signal_probe import COMMANDS, probe

pytestmark = pytest.mark.faults


def test_stops_at_random_moments_leave_no_traceback_and_no_process() -> None:
    outcomes = probe(COMMANDS, count=12, longest_s=6.0, seed=20)
    assert [(each.command, each.way, each.after_s, each.problem) for each in outcomes if each.problem] == []
