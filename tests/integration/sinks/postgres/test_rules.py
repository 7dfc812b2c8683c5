"""Checks that the tables say which rule decided about a detection, and what rules did with a frame."""

from __future__ import annotations

import json

import pytest

from infra.database.pool import Database
from schemas.events import RuleApplied, RulesReport
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made

pytestmark = pytest.mark.integration


async def test_rows_name_the_rule_and_the_session_what_rules_did(database: Database) -> None:
    sink = PostgresSink(database)
    await sink.open()
    event = detections_made(0)
    first, second = event.detections
    rule = RuleApplied(name="young", ruling="relabelled", former_label="cow")
    report = RulesReport(
        file="herd.pl", sha256="0" * 64, engine="trealla", elapsed_ms=2.0, dropped_by_rule={"small": 3}
    )
    changed = first.model_copy(update={"rule": rule, "label": "calf"})
    await sink.write([event.model_copy(update={"detections": [changed, second], "rules": report}), detections_made(1)])
    async with database.acquire() as connection:
        rules = await connection.fetch("SELECT metadata FROM detections WHERE metadata IS NOT NULL")
        sessions = await connection.fetch(
            "SELECT config -> 'rules' AS rules FROM inference_sessions ORDER BY started_at"
        )
    assert [json.loads(row["metadata"]) for row in rules] == [
        {"rule": {"name": "young", "ruling": "relabelled", "former_label": "cow"}}
    ]
    (found,) = (json.loads(row["rules"]) for row in sessions if row["rules"] is not None)
    assert (found["file"], found["dropped_by_rule"], "dropped" in found) == ("herd.pl", {"small": 3}, False)
