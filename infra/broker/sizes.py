"""Computes how large a record is for its topic, for the code that makes it and for the broker that may refuse it."""

from __future__ import annotations

from infra.broker.port import OutRecord

_BATCH_BYTES = 96
_HEADER_BYTES = 8


def record_bytes(record: OutRecord) -> int:
    """Return the bytes of ``record`` that count against its topic's ``max_message_bytes``.

    These are key, value, headers, and at most what Kafka's format adds: 61 bytes for a batch of one record, and the
    lengths of all fields.
    """
    headers = sum(len(name.encode()) + len(value) + _HEADER_BYTES for name, value in record.headers)
    return _BATCH_BYTES + len(record.key.encode()) + len(record.value or b"") + headers
