"""Reads the parameters of a frame from the query and the headers of a request."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

from infra.http_api.errors.api_errors import ValidationFailedError

HEADER_PREFIX = "x-standgale-"
_MAX_QUERY_FIELDS = 64


def pairs_of(query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the parameters of query and ``X-Standgale-…`` headers, by field name; raises ValidationFailedError."""
    pairs: list[tuple[str, str]] = []
    try:
        if query:
            pairs = parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS
            )
        for name, value in headers:
            if name.startswith(HEADER_PREFIX.encode()):
                pairs.append((name[len(HEADER_PREFIX) :].decode().replace("-", "_"), value.decode()))
    except ValueError as error:
        raise ValidationFailedError(
            f"the query or a {HEADER_PREFIX} header cannot be read",
            details=f"Both must be UTF-8 (percent-encoded in the query), with at most {_MAX_QUERY_FIELDS} parameters.",
            field="query",
        ) from error
    return pairs
