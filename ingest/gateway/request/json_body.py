"""Reads a body that is a JSON object with certain fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from infra.http_api.errors.api_errors import ValidationFailedError

_SHOWN_NAME = 60
_SHOWN_NAMES = 5


def object_of(data: bytes, names: Sequence[str], *, details: str) -> Mapping[str, object]:
    """Return the object in ``data``, which has exactly the fields ``names``. Raises ValidationFailedError."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValidationFailedError(f"the body is not JSON: {error}", details=details) from error
    if not isinstance(body, dict) or set(body) != set(names):
        raise wrong_fields(body, names, details=details)
    return body


def wrong_fields(body: object, names: Sequence[str], *, details: str) -> ValidationFailedError:
    """Return the error for a JSON ``body`` that is no object with exactly the fields ``names``."""
    if not isinstance(body, dict):
        return ValidationFailedError("the body is no JSON object", details=details)
    unknown = [repr(name[:_SHOWN_NAME]) for name in body if name not in names][:_SHOWN_NAMES]
    missing = [repr(name) for name in names if name not in body]
    problems = [f"{what} {', '.join(found)}" for what, found in (("unknown", unknown), ("missing", missing)) if found]
    return ValidationFailedError(
        f"the fields of the body are not as they must be: {'; '.join(problems)}", details=details
    )
