"""Checks the topic declarations, and that each wrong one raises a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.errors import TopicsError
from schemas.events import EVENTS
from schemas.topics import DETECTIONS, FRAME_TOPICS, default_path, load_topics


def changed(folder: Path, change: Any) -> Path:
    document = yaml.safe_load(default_path().read_text(encoding="utf-8"))
    change(document)
    path = folder / "topics.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_the_shipped_declarations() -> None:
    topics = load_topics()
    assert {topics[name].group for name in (*FRAME_TOPICS, DETECTIONS)} == {"device"}
    assert {topics[name].partitions for name in (*FRAME_TOPICS, DETECTIONS)} == {8}
    assert topics[DETECTIONS].key == "device_id"
    assert {event for spec in topics.values() for event in spec.events} == {event.event_name for event in EVENTS}


def test_defaults_apply_where_a_topic_has_no_value() -> None:
    topics = load_topics()
    assert topics["frames.live"].retention_s == 604_800
    assert topics[DETECTIONS].retention_s == 2_592_000
    assert topics[DETECTIONS].replication == 3


def test_topics_of_a_grown_group_have_the_former_count(tmp_path: Path) -> None:
    topics = load_topics(changed(tmp_path, lambda d: d["groups"]["device"].update(grown_from=4)))
    assert {topics[name].grown_from for name in (*FRAME_TOPICS, DETECTIONS)} == {4}
    assert load_topics()[DETECTIONS].grown_from is None


def test_topics_of_a_group_that_grew_twice_have_all_former_counts(tmp_path: Path) -> None:
    topics = load_topics(changed(tmp_path, lambda d: d["groups"]["device"].update(grown_from=[2, 4])))
    assert {(topics[name].grown_from, topics[name].grown_before) for name in FRAME_TOPICS} == {(4, (2,))}
    assert topics[DETECTIONS].former_counts == (4, 2)
    assert load_topics()[DETECTIONS].former_counts == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=2), "version"),
        (lambda d: d.update(colour="red"), "colour"),
        (lambda d: d["topics"][DETECTIONS].update(retention_s=1), "topics.detections.retention_s"),
        (lambda d: d["topics"][DETECTIONS].update(retention="7d"), "topics.detections.retention"),
        (lambda d: d["topics"][DETECTIONS].update(cleanup="wipe"), "cleanup"),
        (lambda d: d["topics"][DETECTIONS].update(group="nobody"), "'nobody' is not one of groups"),
        (lambda d: d["topics"][DETECTIONS].update(events=["frame.lost"]), "frame.lost"),
        (lambda d: d["topics"][DETECTIONS].update(events=[]), "events"),
        (lambda d: d["topics"].pop(DETECTIONS), "detections"),
        (lambda d: d["topics"].update({"Bad Name": d["topics"][DETECTIONS]}), "Bad Name"),
        (lambda d: d["groups"]["device"].update(partitions=0), "groups.device.partitions"),
        (lambda d: d["groups"]["device"].update(grown_from=0), "groups.device.grown_from"),
        (lambda d: d["groups"]["device"].update(grown_from=8), "groups.device: .*must be larger"),
        (lambda d: d["groups"]["device"].update(grown_from=16), "groups.device: .*must be larger"),
        (lambda d: d["groups"]["device"].update(grown_from=3), "a whole multiple"),
        (lambda d: d["groups"]["device"].update(grown_from=[4, 2]), "the next one in grown_from is 2"),
        (lambda d: d["groups"]["device"].update(grown_from=[2, 0]), "groups.device.grown_from"),
        (
            lambda d: (
                d["groups"].update(other={"partitions": 4, "key": "device_id"}),
                d["topics"][DETECTIONS].update(group="other"),
            ),
            "must have one `group`",
        ),
    ],
)
def test_wrong_declarations_are_named(tmp_path: Path, change: Any, words: str) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(TopicsError, match=words) as caught:
        load_topics(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00", "just text"])
def test_a_file_without_declarations_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TopicsError, match=r"topics\.yaml"):
        load_topics(path)


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(TopicsError, match="STANDGALE_TOPICS_FILE"):
        load_topics(tmp_path / "none.yaml")


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_bytes(b"version: \xff")
    with pytest.raises(TopicsError, match=r"topics\.yaml"):
        load_topics(path)
