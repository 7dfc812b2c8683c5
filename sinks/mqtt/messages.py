"""Makes the MQTT message of a detections event: its topic, and its CloudEvents attributes as user properties."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.cloudevents import CONTENT_TYPE, Attributes
from schemas.events import DetectionsMade
from sinks.mqtt.settings import DEVICE

SOURCE = "/standgale/detector"
_PATH = "file:"
_ADDRESS = {"image": {"uri"}}


@dataclass(frozen=True, slots=True)
class Message:
    """Holds what is published: CloudEvents 1.0, binary mode of the MQTT 5 binding."""

    topic: str
    payload: bytes
    attributes: tuple[tuple[str, str], ...] = ()
    """The CloudEvents attributes, as user properties"""
    content_type: str | None = None
    retain: bool = False


def detections_message(event: DetectionsMade, topic: str, *, retain: bool) -> Message:
    """Return the message of ``event`` for the setting ``topic``, in which the device id takes the place of {device}.

    The same event always makes the same message. A path of this server (``file:``) is left out of it.
    """
    left_out = _ADDRESS if event.image.uri.startswith(_PATH) else None
    attributes = Attributes(
        id=str(event.id),
        source=SOURCE,
        type=event.event_type(),
        time=event.detected_at,
        partition_key=event.device_id,
        subject=str(event.frame_id),
    ).named()
    if event.job_id is not None:
        attributes.append(("jobid", str(event.job_id)))
    return Message(
        topic=topic.replace(DEVICE, event.device_id),
        payload=event.model_dump_json(exclude=left_out).encode(),
        attributes=tuple(attributes),
        content_type=CONTENT_TYPE,
        retain=retain,
    )
