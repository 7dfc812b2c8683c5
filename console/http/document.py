"""Completes the OpenAPI document of the console: names of operations, keys, groups, and the errors of each route."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi.routing import APIRoute

from console.http.error_codes import CONSOLE_CODES
from infra.http_api.openapi import ErrorBody, component_schemas, error_example, error_response

Responses = dict[int | str, dict[str, Any]]

TAGS: Mapping[str, str] = {
    "uploads": "Upload pictures, and get them back.",
    "jobs": "Ask for jobs, follow and end them.",
    "results": "Boxes, label files and drawn pictures.",
    "detections": "What was found in all frames, by filters and pages.",
    "monitoring": "What is done now, and what waits.",
    "inference jobs": "Let a process read pictures from S3, and post what it finds.",
    "media": "Detect pictures and videos, and watch what is found.",
    "webhooks": "Be called when a job has ended, or something was found.",
}
"""The groups of the pages /docs and /redoc that have a text, in their order."""

KEYS: Mapping[str, Any] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "made by `standgale key add`"},
    "KeyAsBearer": {"type": "http", "scheme": "bearer", "description": "the same API key"},
}
_NEEDED: Sequence[Mapping[str, Sequence[str]]] = [{"ApiKey": []}, {"KeyAsBearer": []}]
_OF_ALL = ("UNAUTHORIZED", "RATE_LIMIT_EXCEEDED", "OVERLOADED", "DATABASE_UNAVAILABLE", "DATABASE_TOO_SLOW")
_OF_BODIES = ("BODY_TOO_LARGE", "UPLOAD_TIMEOUT", "UNSUPPORTED_MEDIA_TYPE", "INVALID_CONFIG")
_OF_PARAMETERS: Mapping[str, str] = {
    "job_id": "JOB_NOT_FOUND",
    "other_id": "JOB_NOT_FOUND",
    "file_id": "FILE_NOT_FOUND",
    "upload_id": "UPLOAD_NOT_FOUND",
    "webhook_id": "WEBHOOK_NOT_FOUND",
    "media_id": "MEDIA_NOT_FOUND",
    "inference_job_id": "INFERENCE_JOB_NOT_FOUND",
}
_TEXTS: Mapping[str, str] = {
    "400": "The request is wrong",
    "401": "No valid API key; the body was not read",
    "404": "There is no such thing, or it belongs to another client",
    "408": "The body was sent too slowly",
    "409": "It contradicts what there is",
    "410": "It was removed",
    "413": "The body is larger than the limit",
    "415": "The Content-Type is not one of this path",
    "429": "Too many requests: send the same again after Retry-After seconds",
    "503": "Busy, or a service is unavailable: send the same again after Retry-After seconds",
}
_VALIDATION = {"$ref": "#/components/schemas/HTTPValidationError"}


def errors(*codes: str) -> Responses:
    """Return the error responses with ``codes``, by status, for the ``responses`` of a route.

    The document adds to each route what all have: a missing key, rates, and things that are not there. Raises KeyError
    for a code that no page explains.
    """
    return {int(status): each for status, each in _responses(codes).items()}


def operation_id(route: APIRoute) -> str:
    """Return the name of an operation for programs that make clients of the document: its group and its function."""
    group = str(route.tags[0]) if route.tags else "console"
    return re.sub(r"\W+", "_", f"{group}_{route.name}")


def complete(schema: dict[str, Any], is_public: Callable[[str], bool]) -> None:
    """Add to ``schema`` what the framework does not know; ``is_public`` says which paths need no key."""
    components = schema.setdefault("components", {})
    components["securitySchemes"] = dict(KEYS)
    schemas = components.setdefault("schemas", {})
    schemas.update(component_schemas([ErrorBody]))
    schema["security"] = _NEEDED
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            _complete_operation(operation, method, path, has_key=not is_public(path))
            for about in operation.get("requestBody", {}).get("content", {}).values():
                # Of a body that an endpoint reads itself: its references are those of the document.
                schemas.update(about.get("schema", {}).pop("$defs", {}))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    used = {tag for methods in schema["paths"].values() for each in methods.values() for tag in each.get("tags", ())}
    schema["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]


def _complete_operation(operation: dict[str, Any], method: str, path: str, *, has_key: bool) -> None:
    responses = operation["responses"]
    content = responses.get("422", {}).get("content", {}).get("application/json", {})
    if content.get("schema") == _VALIDATION:
        # Wrong fields have a code of this service instead.
        del responses["422"]
    # The document of the gateway is on the same page, and its tokens are no keys.
    operation["security"] = _NEEDED if has_key else []
    if not has_key:
        return
    for status, response in _responses(_usual_codes(operation, method, path)).items():
        mine = responses.setdefault(status, response)
        for media_type, about in response["content"].items():
            listed = mine.setdefault("content", {}).setdefault(media_type, about).setdefault("examples", {})
            for code, example in about["examples"].items():
                listed.setdefault(code, example)


def _usual_codes(operation: Mapping[str, Any], method: str, path: str) -> Iterable[str]:
    """Return the codes that follow from what an operation takes."""
    yield from _OF_ALL
    names = re.findall(r"\{(\w+)", path)
    yield from (_OF_PARAMETERS.get(name, "NOT_FOUND") for name in names)
    taken = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    if taken or method == "get":
        # Also of a path without parameters: those that it does not have are refused.
        yield "INVALID_CONFIG"
    yield from (_OF_PARAMETERS[name] for name in taken if name in ("job_id", "file_id"))
    if "application/json" in operation.get("requestBody", {}).get("content", {}):
        yield from _OF_BODIES


def _responses(codes: Iterable[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(CONSOLE_CODES[code].status[:3], []).append(code)
    return {status: _response(status, some) for status, some in found.items()}


def _response(status: str, codes: Sequence[str]) -> dict[str, Any]:
    examples = {
        code: error_example(code, about.meaning, details=about.advice)
        for code, about in ((code, CONSOLE_CODES[code]) for code in codes)
    }
    return error_response(status, _TEXTS.get(status, "An error"), examples)
