"""Describes the endpoints of flights."""

from __future__ import annotations

from pydantic import JsonValue

from infra.http_api.openapi import body_response
from ingest.gateway.flights import DEFAULT_LISTED, MOST_FRAMES, MOST_LISTED
from ingest.gateway.openapi.errors import Json, flight_error_responses
from schemas.event_base import FLIGHT_ID_PATTERN

_FLIGHT_ID: Json = {"type": "string", "pattern": FLIGHT_ID_PATTERN}
_EXAMPLE = "2026-01-31-north"
_COUNT: Json = {"type": "integer", "minimum": 0, "maximum": MOST_FRAMES}
_IN_PATH: Json = {"name": "flight", "in": "path", "required": True, "schema": _FLIGHT_ID, "example": _EXAMPLE}


def announce_flight() -> Json:
    """Return the operation of POST /api/v1/flights."""
    return _operation(
        "announce_flight",
        "Announce a flight and how many frames it will have",
        "The same again changes nothing; another count replaces the one before, until the flight is closed. Frames may "
        "come before: a flight also begins with the first frame that names it.",
        "FlightState",
        ("200", "400", "401", "408", "409", "429", "503"),
        body={"flight": _FLIGHT_ID, "announced": _COUNT},
        example={"flight": _EXAMPLE, "announced": 483},
    )


def close_flight() -> Json:
    """Return the operation of POST /api/v1/flights/{flight}/close."""
    return _operation(
        "close_flight",
        "Close a flight with the number of frames that were sent",
        "The same again changes nothing. A count that does not fit is kept and told in `problems`. Frames that arrive "
        "later count too.",
        "FlightState",
        ("200", "400", "401", "408", "409", "429", "503"),
        body={"count": _COUNT},
        example={"count": 483},
        parameters=[_IN_PATH],
    )


def get_flight() -> Json:
    """Return the operation of GET /api/v1/flights/{flight}."""
    return _operation(
        "get_flight",
        "What arrived of a flight, and what became of it",
        "A frame counts once however often it was sent. It counts as arrived some seconds after it was accepted.",
        "FlightState",
        ("200", "400", "401", "404", "429", "503"),
        parameters=[_IN_PATH],
    )


def list_flights() -> Json:
    """Return the operation of GET /api/v1/flights."""
    return _operation(
        "list_flights",
        "The flights of the device, the newest first",
        "As for one flight, but failures without the ids of frames.",
        "FlightList",
        ("200", "400", "401", "429", "503"),
        parameters=[
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": DEFAULT_LISTED},
            },
            {
                "name": "before",
                "in": "query",
                "description": "List from the flight after this one: `next_before` of the response before",
                "schema": _FLIGHT_ID,
            },
        ],
    )


def _operation(
    name: str,
    summary: str,
    description: str,
    response: str,
    statuses: tuple[str, ...],
    *,
    body: Json | None = None,
    example: Json | None = None,
    parameters: list[JsonValue] | None = None,
) -> Json:
    found: Json = {
        "tags": ["flights"],
        "summary": summary,
        "description": description,
        "operationId": name,
        "security": [{"DeviceToken": []}, {"Bearer": []}],
        "parameters": parameters or [],
        "responses": {
            "200": body_response("The flight as it is now", response),
            **flight_error_responses(statuses[1:]),
        },
    }
    if body is not None:
        content: Json = {
            "schema": {
                "type": "object",
                "required": list(body),
                "properties": body,
                "additionalProperties": False,
            },
            "example": example,
        }
        found["requestBody"] = {"required": True, "content": {"application/json": content}}
    return found
