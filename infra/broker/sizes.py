"""Counts how large a record is for its topic, for the code that makes it and for the broker that may refuse it."""

from __future__ import annotations

from infra.broker.port import OutRecord

_BATCH_BYTES = 96
_HEADER_BYTES = 8


def record_bytes(record: OutRecord) -> int:
    """What ``record`` counts for against its topic's ``max_message_bytes``: key, value, headers, and what frames them.

    The frame is Kafka's, counted from above: a batch of 61 bytes around one record, and the lengths of all its fields.
    """
    headers = sum(len(name.encode()) + len(value) + _HEADER_BYTES for name, value in record.headers)
    return _BATCH_BYTES + len(record.key.encode()) + len(record.value or b"") + headers
