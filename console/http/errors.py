"""Defines the error of requests that ask for something wrong or unknown, in their body or their query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.http_api.errors.api_errors import ApiError


class InvalidConfigError(ApiError):
    """A request for a job is not as it must be; ``errors`` names each wrong field, and what it takes."""

    code = "INVALID_CONFIG"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        """``errors`` has one entry per fault, with ``field`` and ``error``."""
        first = errors[0]
        super().__init__(
            f"Invalid configuration: {first['field']}: {first['error']}",
            field=first["field"],
            details="Correct the fields in errors, and send the request again; /docs describes them.",
            errors=errors,
        )

    @classmethod
    def of(cls, field: str, error: str) -> InvalidConfigError:
        """Return the error of one field."""
        return cls([{"field": field, "error": error}])
