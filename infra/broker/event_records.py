"""Makes the record of an event to publish: CloudEvents headers, key and trace."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from infra.broker.port import OutRecord
from infra.telemetry.tracing import Trace, current_trace
from schemas.cloudevents import Attributes, to_headers
from schemas.event_base import Event


def event_record(
    topic: str,
    event: Event,
    *,
    id: UUID,  # noqa: A002 (the attribute's name in CloudEvents)
    source: str,
    subject: str | None,
    time: datetime,
    key: str,
    trace: Trace | None = None,
) -> OutRecord:
    """Return ``event`` as a record for ``topic`` with its CloudEvents attributes.

    The same event with the same id always makes the same record, so that sending it again does no harm. ``time`` has a
    time zone, ``key`` (the device id) decides the partition, and ``trace`` is by default the current one.
    """
    traceparent, tracestate = trace or current_trace()
    headers = to_headers(
        Attributes(
            id=str(id),
            source=source,
            type=event.event_type(),
            time=time,
            partition_key=key,
            subject=subject,
            traceparent=traceparent,
            tracestate=tracestate,
        )
    )
    return OutRecord(topic=topic, key=key, value=event.to_bytes(), headers=headers)
