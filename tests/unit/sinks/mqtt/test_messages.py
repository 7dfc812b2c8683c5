"""The MQTT message of an event: topic, CloudEvents attributes, body without paths of the server."""

from __future__ import annotations

from uuid import UUID

import orjson

from schemas.events import ImageRef
from sinks.mqtt.messages import detections_message
from standgale.testing.factories import detections_made


def test_message_has_the_topic_of_its_device_and_the_attributes_of_cloudevents() -> None:
    event = detections_made(3, device="cam.a_1", job_id=UUID(int=7))
    message = detections_message(event, "site/{device}/found", retain=True)
    assert message.topic == "site/cam.a_1/found"
    assert message.retain
    assert message.content_type == "application/json"
    assert dict(message.attributes) == {
        "specversion": "1.0",
        "id": str(event.id),
        "source": "/standgale/detector",
        "type": "standgale.detections.made.v1",
        "time": "2026-05-01T12:00:03.350000Z",
        "subject": str(event.frame_id),
        "partitionkey": "cam.a_1",
        "jobid": str(UUID(int=7)),
    }
    assert message == detections_message(event, "site/{device}/found", retain=True)


def test_message_leaves_out_a_path_of_the_server_and_keeps_an_address() -> None:
    event = detections_made(0)
    assert "uri" not in orjson.loads(detections_message(event, "{device}", retain=False).payload)["image"]
    image = ImageRef.model_validate(event.image.model_dump() | {"uri": "s3://frames/ab/abcd.jpg"})
    data = orjson.loads(detections_message(event.model_copy(update={"image": image}), "{device}", retain=False).payload)
    assert data["image"]["uri"] == "s3://frames/ab/abcd.jpg"
    assert data["detections"][0]["label"] == "car"
