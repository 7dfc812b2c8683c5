"""The list of consumer groups fits in 80 characters, with every number."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from infra.broker.port import GroupState
from standgale.commands.topics import _groups_table


def test_groups_fit_in_80_characters_with_every_number() -> None:
    groups = [
        GroupState("sink.webhooks-detections", 12, ("detections", "redrive"), 1_234_567, 1_780_000_000_000, None),
        GroupState("sink.archive-commits", 1, ("archive.commits", "redrive"), 0, None, 1_780_000_000_000),
    ]
    out = StringIO()
    Console(width=80, file=out).print(_groups_table(groups))
    text = out.getvalue()
    for part in ("sink.webhooks-detections", "members", "not read", "1234567", "2026-05-28", "archive.commits"):
        assert part in text
