"""Tests that differing settings are shown in the units of topics.yaml."""

from __future__ import annotations

from infra.broker.kafka.administration.topic_settings import declared_settings, differing_settings
from infra.broker.port import TopicDifference
from schemas.topics import DETECTIONS, load_topics


def test_setting_that_the_broker_does_not_report_is_unset() -> None:
    spec = load_topics()[DETECTIONS].model_copy(update={"retention_s": 60})
    effective = declared_settings(spec, 1)
    assert differing_settings(spec, 1, effective) == []
    assert differing_settings(spec, 1, {**effective, "retention.ms": "120000"}) == [
        TopicDifference(spec.name, "retention_s", "60", "120", fixable=True)
    ]
    del effective["retention.ms"]
    assert differing_settings(spec, 1, effective) == [
        TopicDifference(spec.name, "retention_s", "60", "unset", fixable=True)
    ]
