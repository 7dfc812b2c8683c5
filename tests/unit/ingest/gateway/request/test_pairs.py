"""Parameters are read from the query and from headers alike."""

from __future__ import annotations

import pytest

from infra.http_api.errors.api_errors import ValidationFailedError
from ingest.gateway.request.pairs import pairs_of


def test_query_and_headers_are_read_alike() -> None:
    pairs = pairs_of(
        b"captured_at=2026-01-31T12%3A00%3A00%2B02:00&metadata=%7B%7D",
        [(b"x-standgale-altitude-m", b"80"), (b"x-api-token", b"secret"), (b"x-standgale-device-id", b"d")],
    )
    assert pairs == [
        ("captured_at", "2026-01-31T12:00:00+02:00"),
        ("metadata", "{}"),
        ("altitude_m", "80"),
        ("device_id", "d"),
    ]


@pytest.mark.parametrize(
    ("query", "header"), [(b"metadata=%ff", b""), (b"&".join([b"a=1"] * 65), b""), (b"", b"\xff"), (b"\xff=1", b"")]
)
def test_unreadable_parameters_are_refused(query: bytes, header: bytes) -> None:
    with pytest.raises(ValidationFailedError, match="cannot be read"):
        pairs_of(query, [(b"x-standgale-metadata", header)])
