"""Generates the AsyncAPI 3.0 document: topics as channels, events as messages, services as operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic.json_schema import JsonSchemaValue

from schemas.event_base import Event
from schemas.events import EVENTS
from schemas.topics import (
    DETECTIONS,
    FRAME_TOPICS,
    FRAMES_DEAD,
    FRAMES_LIVE,
    MODELS,
    PROBES,
    REDRIVE,
    SINKS_DEAD,
    TopicSpec,
)

Node: TypeAlias = "str | int | float | bool | Sequence[Node] | Mapping[str, Node] | None"

_BINDING = "0.5.0"
_TIME = "2026-01-02T03:04:05.000006Z"


@dataclass(frozen=True, slots=True)
class _DocumentPart:
    """Describes what one service does with a topic; ``group`` is its consumer group, None when it reads without one."""

    service: str
    action: Literal["send", "receive"]
    topic: str
    about: str
    group: str | None = None


_PARTS = (
    _DocumentPart("gateway", "send", FRAMES_LIVE, "Announces a frame once its bytes are durable in the frame store."),
    _DocumentPart("gateway", "send", PROBES, "Checks whether the broker accepts records while no frames arrive."),
    *(
        _DocumentPart("detector", "receive", topic, "Processes each frame once, live frames first.", "detector")
        for topic in FRAME_TOPICS
    ),
    _DocumentPart(
        "detector",
        "send",
        DETECTIONS,
        "Writes what was found in a frame, and commits the frame with it.",
    ),
    _DocumentPart("detector", "send", FRAMES_DEAD, "Writes a dead letter for a frame that it cannot process."),
    _DocumentPart("detector", "receive", MODELS, "Reads which model its roll-out lane should use; without a group."),
    _DocumentPart("detector", "send", MODELS, "Reports which models it has."),
    _DocumentPart("operator", "send", MODELS, "Activates a model version, or rolls back."),
    _DocumentPart("postgres", "receive", DETECTIONS, "Writes detections into PostgreSQL.", "postgres"),
    _DocumentPart(
        "postgres", "receive", REDRIVE, "Writes the events that are sent to it again, and skips others.", "postgres"
    ),
    _DocumentPart("operator", "send", REDRIVE, "Sends dead letters again, and records which were sent."),
    _DocumentPart("postgres", "send", SINKS_DEAD, "Writes a dead letter for an event that it cannot write."),
    _DocumentPart("sse", "receive", DETECTIONS, "Streams detections to HTTP clients; reads without a group."),
)


def asyncapi_document(topics: Mapping[str, TopicSpec], schemas: Mapping[str, JsonSchemaValue]) -> dict[str, Node]:
    """Return the document for ``topics``; ``schemas`` are the schemas of events and their parts by name."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Standgale events",
            "version": "1.0.0",
            "description": (
                "Frames come in, detections go out. Every record is a CloudEvent 1.0 in binary mode: attributes in "
                "`ce_*` headers, JSON data as the value. Readers ignore fields they do not know."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The Kafka cluster the services are set to (`broker.bootstrap_servers`).",
                "variables": {"bootstrap": {"default": "127.0.0.1:9092", "description": "host:port"}},
            }
        },
        "channels": {name: _channel(spec) for name, spec in topics.items()},
        "operations": {f"{part.service}.{part.action}.{part.topic}": _operation(part, topics) for part in _PARTS},
        "components": {
            "messages": {event.event_type(): _message(event) for event in EVENTS},
            "schemas": {name: _as_draft_7(schema) for name, schema in schemas.items()},
        },
    }


def _named(event_name: str) -> type[Event]:
    return next(event for event in EVENTS if event.event_name == event_name)


def _channel(spec: TopicSpec) -> Node:
    types = [_named(name).event_type() for name in spec.events]
    return {
        "address": spec.name,
        "title": spec.name,
        "description": spec.about,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in types},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "replicas": spec.replication,
                "topicConfiguration": {
                    "cleanup.policy": [spec.cleanup],
                    "retention.ms": spec.retention_s * 1000,
                    "max.message.bytes": spec.max_message_bytes,
                },
                "bindingVersion": _BINDING,
            }
        },
        "x-key": spec.key,
        "x-co-partitioned-group": spec.group,
        "x-min-insync-replicas": spec.min_insync_replicas,
    }


def _operation(part: _DocumentPart, topics: Mapping[str, TopicSpec]) -> Node:
    types = [_named(name).event_type() for name in topics[part.topic].events]
    kafka: dict[str, Node] = {"bindingVersion": _BINDING}
    if part.group is not None:
        kafka["groupId"] = {"type": "string", "enum": [part.group]}
    return {
        "action": part.action,
        "channel": {"$ref": f"#/channels/{part.topic}"},
        "summary": part.about,
        "tags": [{"name": part.service}],
        "messages": [{"$ref": f"#/channels/{part.topic}/messages/{name}"} for name in types],
        "bindings": {"kafka": kafka},
    }


def _message(event: type[Event]) -> Node:
    return {
        "name": event.event_type(),
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip(),
        "contentType": "application/json",
        "headers": _headers(event),
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "pattern": event.key_pattern,
                    "description": event.key_about,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _headers(event: type[Event]) -> Node:
    text: dict[str, Node] = {"type": "string", "minLength": 1}
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_partitionkey", "content-type"],
        "properties": {
            "ce_specversion": {"type": "string", "const": "1.0"},
            "ce_id": {**text, "description": "The event's id; the same event always has the same id."},
            "ce_source": {**text, "description": "The service that wrote the event."},
            "ce_type": {"type": "string", "const": event.event_type()},
            "ce_time": {
                "type": "string",
                "format": "date-time",
                "description": "UTC, microseconds",
                "examples": [_TIME],
            },
            "ce_partitionkey": {**text, "description": "The record's key."},
            "ce_subject": {**text, "description": "What the event is about, for example the frame's id."},
            "ce_jobid": {**text, "description": "The job that the frame belongs to; absent for live frames."},
            "content-type": {"type": "string", "const": "application/json"},
            "traceparent": {**text, "description": "W3C trace context."},
            "tracestate": {"type": "string", "description": "W3C trace context."},
        },
    }


def _as_draft_7(schema: object) -> Node:
    """Return ``schema`` in the dialect of AsyncAPI, a superset of draft 7, where tuples are a list under ``items``."""
    if isinstance(schema, Mapping):
        return {("items" if key == "prefixItems" else str(key)): _as_draft_7(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_as_draft_7(value) for value in schema]
    if schema is None or isinstance(schema, str | bool | int | float):
        return schema
    raise TypeError(f"{type(schema).__name__} is not a type of JSON")
