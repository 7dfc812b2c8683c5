"""Closes a flight at the gateway with the number of its frames."""

from __future__ import annotations

import asyncio
import logging

import orjson
from pydantic import BaseModel, ValidationError

from infra.failure.backoff import Backoff
from infra.texts import counted
from infra.waiting import wait_until_set
from ingest.edge.sending.gateway import GatewayConnection, NotSentError, Response
from ingest.edge.sending.responses import NotSent, asked_wait_s, error_of
from ingest.edge.settings import EdgeSettings

logger = logging.getLogger(__name__)

_ARRIVE_S = 20


class _Closed(BaseModel):
    """Is what the gateway says of a closed flight, as far as it is needed here."""

    summary: str
    missing: int | None


async def close_flight(
    connection: GatewayConnection, settings: EdgeSettings, flight: str, count: int, stop: asyncio.Event
) -> bool:
    """Close ``flight`` with ``count`` frames; return whether the gateway did. Tries again until ``stop`` is set."""
    backoff, is_said = Backoff(settings), False
    while not stop.is_set():
        answer = await _ask(connection, flight, count)
        if isinstance(answer, _Closed):
            await _log_closed(connection, flight, count, answer, stop)
            return True
        if answer.needs_person:
            logger.error("the flight %s is not closed: %s", flight, answer.reason, extra={"code": answer.code})
            return False
        if not is_said:
            logger.warning("the flight %s is not closed yet: %s; it is tried again", flight, answer.reason)
            is_said = True
        await wait_until_set(stop, max(backoff.next_delay_s(), answer.retry_after_s))
    logger.error("the flight %s is not closed, because the client was stopped; run the command again", flight)
    return False


async def _log_closed(
    connection: GatewayConnection, flight: str, count: int, closed: _Closed, stop: asyncio.Event
) -> None:
    """Log what became of the frames, once all have arrived: a service counts them some seconds after their 202."""
    for _ in range(_ARRIVE_S):
        if not closed.missing or await wait_until_set(stop, 1.0):
            break
        again = await _ask(connection, flight, count)
        closed = again if isinstance(again, _Closed) else closed
    logger.info("the flight %s is closed with %s: %s", flight, counted(count, "frame"), closed.summary)


async def _ask(connection: GatewayConnection, flight: str, count: int) -> _Closed | NotSent:
    """Ask the gateway to close the flight; the same again changes nothing."""
    try:
        response = await connection.post_json(f"/api/v1/flights/{flight}/close", orjson.dumps({"count": count}))
    except NotSentError as error:
        return error.outcome
    if response.status == 200:
        return _closed(response)
    code, message = error_of(response.body)
    said = f"the gateway responds {response.status}" + (f" {code}: {message}" if code else "")
    is_final = response.status not in (408, 429) and response.status < 500
    return NotSent(said, code or f"HTTP_{response.status}", asked_wait_s(response.headers), needs_person=is_final)


def _closed(response: Response) -> _Closed | NotSent:
    try:
        return _Closed.model_validate_json(response.body)
    except ValidationError:
        reason = "the response does not describe a flight; something between this device and the gateway answers"
        return NotSent(reason, "NOT_A_GATEWAY", needs_person=True)
