"""Checks that the generated documents are valid, complete, up to date, and accept real events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from schemas.archive_events import ArchiveCommitted
from schemas.cloudevents import Attributes, to_headers
from schemas.documents import ASYNCAPI_FILE, GENERATED, check, documents, json_schema, main, schema_file, write
from schemas.event_base import Event
from schemas.events import EVENTS, DeadLetter, DetectionsMade, FrameCaptured, ProbeSent
from schemas.job_events import JobFinished
from schemas.model_events import ModelActivated, WorkerAvailability
from schemas.statistics_events import StatisticsCounted
from schemas.topics import load_topics
from tests.factories import FRAME_FIELDS

FRAME = FRAME_FIELDS | {
    "camera": {"altitude_m": 50, "latitude": 50.8},
    "metadata": {"battery": 0.5, "tags": ["a", None]},
}
STEPS = ("queued_ms", "fetch_ms", "decode_ms", "inference_ms", "merge_ms", "total_ms")
SPREAD = dict.fromkeys(("mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"), 1.5)
SAMPLES: dict[type[Event], Event] = {
    FrameCaptured: FrameCaptured.model_validate(FRAME),
    DetectionsMade: DetectionsMade.model_validate(
        {
            **FRAME,
            "id": FRAME["frame_id"],
            "detected_at": "2026-11-20T12:00:02Z",
            "model": {"name": "m", "version": "1"},
            "options": {"confidence": 0.3, "merge_method": "nms"},
            "detections": [
                {
                    "id": FRAME["frame_id"],
                    "label": "car",
                    "class_id": 0,
                    "confidence": 1,
                    "box": {"x1": 0, "y1": 0, "x2": 1, "y2": 0.5},
                }
            ],
            "timings": dict.fromkeys(STEPS, 0.5),
        }
    ),
    StatisticsCounted: StatisticsCounted.model_validate(
        {
            **dict.fromkeys(("minute", "first_captured_at", "last_captured_at"), "2026-11-20T12:00:00Z"),
            "last_detected_at": "2026-11-20T12:00:02Z",
            **dict.fromkeys(("id", "window_id"), FRAME["frame_id"]),
            "device_id": "drone-1",
            "model": {"name": "m", "version": "1"},
            "source": "live",
            **dict.fromkeys(("revision", "frames", "frames_with_detections", "detections"), 1),
            "frames_per_s": 0.0167,
            "clock_ahead": 0,
            "classes": [{"label": "car", "detections": 1, "frames": 1, "mean_confidence": 0.5}],
            "other_detections": 0,
            "times": dict.fromkeys(
                ("captured_to_received", "lag", "received_to_detected", "captured_to_detected"), SPREAD
            ),
        }
    ),
    DeadLetter: DeadLetter.model_validate(
        {
            "id": FRAME["frame_id"],
            "group": "detector",
            "reason": "IMAGE_MISSING",
            "message": "gone",
            "attempts": 3,
            "failed_at": "2026-11-20T12:00:02Z",
            "original": {
                "topic": "frames.live",
                "partition": 0,
                "offset": 5,
                "timestamp_ms": 1,
                "key": "drone-1",
                "value": b"\x00\xff",
                "headers": [("ce_id", b"\xfe")],
            },
        }
    ),
    ModelActivated: ModelActivated.model_validate(
        {
            "id": FRAME["frame_id"],
            "lane": "default",
            "stable": {"name": "m", "version": "2"},
            "canary": {"model": {"name": "m", "version": "3"}, "share": 0.1, "devices": ["drone-1"]},
            "previous": None,
            "activated_at": "2026-11-20T12:00:02Z",
            "by": "ana",
        }
    ),
    WorkerAvailability: WorkerAvailability.model_validate(
        {
            "lane": "default",
            "worker": "worker-1",
            "activation": FRAME["frame_id"],
            "settled": True,
            "state": "enabled",
            "models": [
                {
                    "model": {"name": "m", "version": "2"},
                    "role": "stable",
                    "state": "enabled",
                    "serving": True,
                    "engine": "openvino",
                    "since": "2026-11-20T12:00:02Z",
                    "loaded_at": "2026-11-20T12:00:02Z",
                }
            ],
            "reported_at": "2026-11-20T12:00:02Z",
            "valid_s": 45,
        }
    ),
    JobFinished: JobFinished.model_validate(
        {
            "id": FRAME["frame_id"],
            "job_id": "job_abc123xyz789",
            "job_uuid": FRAME["frame_id"],
            "client_id": "desktop",
            "status": "completed",
            "created_at": "2026-11-20T12:00:00Z",
            "finished_at": "2026-11-20T12:00:09Z",
            "total_images": 2,
            "processed_images": 2,
            "failed_images": 0,
            "total_detections": 5,
        }
    ),
    ArchiveCommitted: ArchiveCommitted.model_validate(
        {
            "id": FRAME["frame_id"],
            "batch_id": FRAME["frame_id"],
            "repository": "bird-detection",
            "branch": "main",
            "commit_id": "c" * 64,
            "committed_at": "2026-11-20T12:00:09Z",
            "images": [{"frame_id": FRAME["frame_id"], "path": "images/drone-7/2026-11-20/12-00-00_a3f5.jpg"}],
        }
    ),
    ProbeSent: ProbeSent.model_validate({"process": "gateway-1-7", "sent_at": "2026-11-20T12:00:02Z"}),
}


@cache
def asyncapi() -> dict[str, dict[str, dict[str, Any]]]:
    document = yaml.safe_load(documents(load_topics())[ASYNCAPI_FILE])
    assert isinstance(document, dict)
    return document


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: object, reference: str) -> object:
    assert reference.startswith("#/")
    for part in reference.removeprefix("#/").split("/"):
        assert isinstance(document, dict)
        document = document[part]
    return document


def test_the_documents_in_the_repository_are_up_to_date() -> None:
    assert check(GENERATED) == []


def test_every_event_has_a_sample_here() -> None:
    assert set(SAMPLES) == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.event_name)
def test_schemas_are_valid_and_accept_real_events(event: type[Event]) -> None:
    schema = json_schema(event)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    validator.validate(json.loads(SAMPLES[event].to_bytes()))
    validator.validate({**json.loads(SAMPLES[event].to_bytes()), "a_field_of_the_future": 1})


def test_schemas_refuse_what_events_refuse() -> None:
    validator = Draft202012Validator(json_schema(DetectionsMade))
    good = json.loads(SAMPLES[DetectionsMade].to_bytes())
    for bad in (
        {key: value for key, value in good.items() if key != "detections"},
        {**good, "device_id": "a b"},
        {**good, "image": {**good["image"], "width": 0}},
        {**good, "detections": [{**good["detections"][0], "confidence": 1.5}]},
    ):
        with pytest.raises(ValidationError):
            validator.validate(bad)


def test_times_are_marked_as_such() -> None:
    schema = json_schema(DetectionsMade)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name in ("captured_at", "received_at", "detected_at"):
        field = properties[name]
        assert isinstance(field, dict)
        assert field["format"] == "date-time"
        assert "UTC" in str(field["description"])


def test_ids_and_titles() -> None:
    schema = json_schema(FrameCaptured)
    assert schema["$id"] == "urn:standgale:schema:frame.captured:v1"
    assert '"title": "Frame id"' in documents(load_topics())[schema_file(FrameCaptured)]


def test_asyncapi_has_what_the_specification_requires() -> None:
    document = asyncapi()
    assert str(document["asyncapi"]) == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for server in document["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]
        assert isinstance(channel, dict)
        # An operation's messages must be those of its channel, by reference into the channel.
        for message in references(operation["messages"]):
            assert message.startswith(channel["$ref"] + "/messages/")


def test_every_reference_resolves() -> None:
    document = asyncapi()
    found = list(references(document))
    assert len(found) > 40
    for reference in found:
        assert resolve(document, reference) is not None


def test_channels_are_the_topics_with_their_kafka_settings() -> None:
    topics = load_topics()
    channels = asyncapi()["channels"]
    assert channels.keys() == topics.keys()
    for name, spec in topics.items():
        bindings = channels[name]["bindings"]
        assert isinstance(bindings, dict)
        kafka = bindings["kafka"]
        assert kafka["topic"] == channels[name]["address"] == name
        assert kafka["partitions"] == spec.partitions
        assert kafka["topicConfiguration"]["retention.ms"] == spec.retention_s * 1000


def test_messages_accept_real_headers_and_payloads() -> None:
    document = asyncapi()
    for event, sample in SAMPLES.items():
        message = document["components"]["messages"][event.event_type()]
        attributes = Attributes(
            id=str(UUID(int=1)),
            source="test",
            type=event.event_type(),
            time=FrameCaptured.model_validate(FRAME).captured_at,
            partition_key="drone-1",
            subject="x",
        )
        headers = {name: value.decode() for name, value in to_headers(attributes)}
        Draft7Validator(message["headers"], format_checker=FormatChecker()).validate(headers)
        # The dialect inside AsyncAPI is draft 7; the document is the root that references resolve in.
        payload = {**document, "allOf": [message["payload"]]}
        Draft7Validator(payload).validate(json.loads(sample.to_bytes()))
        with pytest.raises(ValidationError):
            Draft7Validator(payload).validate({})


def test_check_lists_differences_and_write_repairs_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(write(tmp_path)) == len(EVENTS) + 3
    assert check(tmp_path) == []
    (tmp_path / ASYNCAPI_FILE).write_text("changed")
    (tmp_path / schema_file(DeadLetter)).unlink()
    (tmp_path / "standgale.gone.v1.json").write_text("{}")
    assert {line.partition(":")[0] for line in check(tmp_path)} == {
        ASYNCAPI_FILE,
        schema_file(DeadLetter),
        "standgale.gone.v1.json",
    }
    assert main(["check", "--folder", str(tmp_path)]) == 1
    assert "python -m schemas.documents write" in capsys.readouterr().err
    assert main(["write", "--folder", str(tmp_path)]) == 0
    assert main(["check", "--folder", str(tmp_path)]) == 0
