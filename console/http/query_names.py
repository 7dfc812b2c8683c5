"""Refuses parameters of a query that a route does not have: a misspelt one would change nothing without a word."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request

from console.http.errors import InvalidConfigError
from infra.telemetry.http import endpoint_of
from infra.texts import shortened

_LONGEST_NAME = 60
_NEAR = 0.6


async def require_known_query(request: Request) -> None:
    """Raise InvalidConfigError that names the nearest parameter for one that the route of a GET request does not have.

    A dependency of all routes; the parameters are those of the OpenAPI document.
    """
    if request.method != "GET" or not request.scope["query_string"]:
        return
    known = _parameters(request.app, endpoint_of(request.scope))
    if known is None:
        return
    for name in request.query_params:
        if name not in known:
            raise InvalidConfigError.of(shortened(name, _LONGEST_NAME) or "query", _advice(name, known))


def _parameters(app: FastAPI, path: str) -> list[str] | None:
    """Return the names of a route's parameters; None for one that the document does not have."""
    operation: Mapping[str, Any] | None = app.openapi()["paths"].get(path, {}).get("get")
    if operation is None:
        return None
    return [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]


def _advice(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, _NEAR)
    if near:
        return f"Is not known; {near[0]} is"
    return f"Is not known; this path takes {', '.join(known)}" if known else "Is not known; this path takes none"
