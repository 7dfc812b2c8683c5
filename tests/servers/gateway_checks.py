"""Checks responses of the gateway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from tests.servers.gateway import Gateway, GatewayResponse

HUGE = b"\xff\xd8\xff\xc0\x00\x11\x08\xc3\x50\xc3\x50\x03\x01\x11\x00\x02\x11\x00\x03\x11\x00"


def assert_error(response: GatewayResponse, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """Assert that all fields of the error body are right; return it."""
    assert (response.status, response.json["error_code"]) == (status, code), response.body
    headers = {name.lower(): value for name, value in response.headers.items()}
    body: dict[str, Any] = response.json
    assert body["status"] == "error"
    assert body["message"]
    assert body["request_id"] == headers["x-request-id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", body["timestamp"])
    assert headers["x-api-version"] == "1.0"
    assert body.get("field") == field
    if status == 503:
        assert 1 <= int(headers["retry-after"]) <= 5
    return body


def assert_documented(body: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Assert that ``body`` is as the OpenAPI document says, without any other field."""
    model.model_validate(body)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert required <= set(body) <= set(model.model_fields)


async def assert_nothing_stored(gateway: Gateway) -> None:
    assert gateway.stored() == []
    assert await gateway.records() == []
