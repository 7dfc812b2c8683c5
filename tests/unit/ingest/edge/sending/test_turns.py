"""The choice between live frames and the backlog."""

from __future__ import annotations

import pytest

from ingest.edge.sending.turns import Turns
from ingest.edge.spool.entry import Entry


def entry(number: int, size_bytes: int = 1_000) -> Entry:
    return Entry(number, str(number), size_bytes, None)


def sent_sizes(turns: Turns, rounds: int, live_bytes: int, backlog_bytes: int) -> tuple[int, int]:
    """Send while both always have a frame; return the bytes of live frames and of the backlog."""
    live, backlog = entry(2, live_bytes), entry(1, backlog_bytes)
    sums = {True: 0, False: 0}
    for _ in range(rounds):
        chosen = turns.choose(live, backlog)
        assert chosen is not None
        turns.sent(chosen, live, backlog)
        sums[chosen is live] += chosen.size_bytes
    return sums[True], sums[False]


def test_frames_of_one_kind_alone_are_chosen() -> None:
    turns, frame = Turns(0.2), entry(1)
    assert turns.choose(frame, None) is frame
    assert turns.choose(None, frame) is frame
    assert turns.choose(None, None) is None


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("backlog_bytes", [100, 1_000, 3_000])
def test_backlog_gets_its_share_of_the_bytes(share: float, backlog_bytes: int) -> None:
    live, backlog = sent_sizes(Turns(share), 3_000, 1_000, backlog_bytes)
    assert backlog / (live + backlog) == pytest.approx(share, abs=0.02)


def test_first_frame_after_an_outage_is_live() -> None:
    live, backlog = entry(2), entry(1)
    assert Turns(0.9).choose(live, backlog) is live


def test_time_without_live_frames_gives_the_backlog_no_credit() -> None:
    turns, live, backlog = Turns(0.5), entry(2), entry(1)
    for _ in range(100):
        turns.sent(backlog, None, backlog)
    assert turns.choose(live, backlog) is live
