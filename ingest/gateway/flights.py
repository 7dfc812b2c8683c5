"""Serves /api/v1/flights: a device announces and closes its flights, and asks what became of their frames."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import orjson
from pydantic import JsonValue
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.errors import DatabaseUnavailableError
from infra.http_api.errors.api_errors import ApiError, OverloadedError, ValidationFailedError
from infra.http_api.limits.turns import Turns
from infra.http_api.request.body import BodyLimit, declared_length, read_body
from infra.telemetry.logs import bind
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.device_token import token_of
from ingest.acceptance.fields import parse_flight
from ingest.flights.flight import Flight, Flights
from ingest.gateway.request.json_body import object_of
from ingest.gateway.request.uploads import body_time_limit
from ingest.gateway.results import public_failure_text
from ingest.settings import GatewaySettings
from schemas.timestamps import format_utc

MOST_FRAMES = 10_000_000
"""The most frames that a flight may be announced or closed with."""
MOST_LISTED = 100
DEFAULT_LISTED = 20
_BODY = BodyLimit(4_096, "a flight needs no more", details="Send only what describes the flight.")
# The database is slower than the gateway; beyond this, requests would only wait for each other.
_MOST_REQUESTS = 32
_MOST_QUERIES = 2
_MAX_QUERY_FIELDS = 8


class FlightNotFoundError(ApiError):
    """The device has no flight with this id; a flight that another device has is none of its own."""

    code = "FLIGHT_NOT_FOUND"
    status = 404


class FlightEndpoints:
    """Are the endpoints as plain ASGI apps. Only they wait for the database; frames are accepted without it."""

    def __init__(self, acceptance: Acceptance, flights: Flights, settings: GatewaySettings, turns: Turns) -> None:
        self._acceptance = acceptance
        self._flights = flights
        self._settings = settings
        self._turns = turns
        self._requests: Counter[str] = Counter()
        self._queries = asyncio.Semaphore(_MOST_QUERIES)

    async def announce(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle POST /api/v1/flights."""
        async with self._request(scope) as device_id:
            body = await self._read(scope, receive, device_id, ("flight", "announced"))
            flight_id = parse_flight(_text(body, "flight"))
            count = _count(body, "announced")
            async with self._query():
                flight = await self._flights.announce(device_id, flight_id, count)
        await _respond(flight_body(device_id, flight), scope, receive, send)

    async def close(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle POST /api/v1/flights/{flight}/close."""
        async with self._request(scope) as device_id:
            flight_id = parse_flight(scope["path_params"]["flight"])
            count = _count(await self._read(scope, receive, device_id, ("count",)), "count")
            async with self._query():
                flight = await self._flights.close(device_id, flight_id, count)
        await _respond(flight_body(device_id, flight), scope, receive, send)

    async def get(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle GET /api/v1/flights/{flight}."""
        async with self._request(scope) as device_id:
            flight_id = parse_flight(scope["path_params"]["flight"])
            async with self._query():
                flight = await self._flights.get(device_id, flight_id)
        if flight is None:
            raise FlightNotFoundError(
                f"this device has no flight {flight_id}",
                details="A flight is known when it was announced, or some seconds after its first frame was accepted.",
                field="flight",
            )
        await _respond(flight_body(device_id, flight), scope, receive, send)

    async def list(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle GET /api/v1/flights."""
        async with self._request(scope) as device_id:
            limit, before = _page(scope["query_string"])
            async with self._query():
                found = await self._flights.newest(device_id, limit, before)
        body: dict[str, JsonValue] = {
            "flights": [flight_body(device_id, flight) for flight in found],
            "next_before": found[-1].flight_id if len(found) == limit else None,
        }
        await _respond(body, scope, receive, send)

    @asynccontextmanager
    async def _request(self, scope: Scope) -> AsyncIterator[str]:
        device_id = self._acceptance.authenticate(token_of(dict(scope["headers"])))
        own, total = self._requests[device_id], self._requests.total()
        # A device may have as many as are still free, so that none keeps the others out.
        if total >= _MOST_REQUESTS or (own and own >= _MOST_REQUESTS - total):
            raise OverloadedError(
                f"the gateway has {total} requests about flights in progress, {own} of them of this device, as many as "
                f"it accepts (of {_MOST_REQUESTS})",
                details="Send the same request again after Retry-After seconds.",
            )
        self._requests[device_id] += 1
        try:
            with bind(device_id=device_id):
                yield device_id
        finally:
            self._requests[device_id] -= 1
            if not self._requests[device_id]:
                del self._requests[device_id]

    @asynccontextmanager
    async def _query(self) -> AsyncIterator[None]:
        timeout_s = self._settings.flights_timeout_s
        try:
            async with asyncio.timeout(timeout_s), self._queries:
                yield
        except TimeoutError as error:
            raise DatabaseUnavailableError(
                f"the database did not answer within {timeout_s:g} s (gateway.flights_timeout_s)"
            ) from error

    async def _read(
        self, scope: Scope, receive: Receive, device_id: str, names: tuple[str, ...]
    ) -> Mapping[str, object]:
        """Return the JSON object in the body, which has exactly the fields ``names``."""
        declared_length(dict(scope["headers"]), _BODY)
        data = await read_body(receive, _BODY, body_time_limit(self._settings), self._turns, device_id)
        example = ", ".join(f'"{name}": …' for name in names)
        return object_of(data, names, details=f"Send {{{example}}}.")


def flight_body(device_id: str, flight: Flight) -> dict[str, JsonValue]:
    """Return the body that describes ``flight``."""
    return {
        "flight": flight.flight_id,
        "device_id": device_id,
        "status": "open" if flight.closed_at is None else "closed",
        "summary": flight.summary,
        "complete": flight.complete,
        "problems": list(flight.problems),
        "announced": flight.announced,
        "count": flight.count,
        "arrived": flight.arrived,
        "detected": flight.detected,
        "failed": flight.failed,
        "waiting": flight.waiting,
        "missing": flight.missing,
        "removed": flight.removed,
        "failures": [
            {
                "reason": failure.reason,
                "count": failure.count,
                "message": public_failure_text(failure.reason, failure.message),
                "frames": [str(frame) for frame in failure.frames],
            }
            for failure in flight.failures
        ],
        "opened_at": format_utc(flight.opened_at),
        "closed_at": None if flight.closed_at is None else format_utc(flight.closed_at),
    }


def _text(body: Mapping[str, object], name: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise ValidationFailedError(f"{name} must be text", field=name)
    return value


def _count(body: Mapping[str, object], name: str) -> int:
    value = body[name]
    if isinstance(value, float) and value.is_integer():
        # JSON has one kind of number: 483.0 is a whole one.
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_FRAMES:
        raise ValidationFailedError(
            f"{name} is {repr(value)[:40]}; it must be a whole number of frames, from 0 to {MOST_FRAMES}", field=name
        )
    return value


def _page(query: bytes) -> tuple[int, str | None]:
    """Return how many flights to list, and the flight that they follow."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError as error:
        raise ValidationFailedError("the query cannot be read; it takes limit and before", field="query") from error
    given = dict(pairs)
    unknown = [name for name in given if name not in ("limit", "before")]
    if unknown or len(given) < len(pairs):
        raise ValidationFailedError("the query takes limit and before, each once", field=(unknown or ["query"])[0][:60])
    text = given.get("limit", str(DEFAULT_LISTED))
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST_LISTED):
        raise ValidationFailedError(f"limit is {text[:40]!r}; it must be 1 to {MOST_LISTED}", field="limit")
    before = given.get("before")
    return int(text), None if before is None else parse_flight(before, "before")


async def _respond(body: Mapping[str, JsonValue], scope: Scope, receive: Receive, send: Send) -> None:
    await Response(orjson.dumps(body), media_type="application/json")(scope, receive, send)
