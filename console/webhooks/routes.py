"""Serves the web-hooks of clients."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from console.http.callers import Caller, caller_of
from console.http.connection import request_connection
from console.http.document import errors
from console.http.errors import InvalidConfigError
from console.jobs.job_route import JobRoute
from console.parts import ConsoleParts
from console.webhooks import records
from console.webhooks.bodies import (
    DeliveriesBody,
    NewWebhook,
    RedrivenBody,
    WebhookBody,
    WebhooksBody,
    WebhookWithSecret,
)
from infra.database.transaction import transaction
from infra.network.addresses import AddressRefusedError
from sinks.webhooks.calls import require_allowed_literal

_Caller = Annotated[Caller, Depends(caller_of)]
_PATH = "/api/v1/webhooks"
_SHOWN_DELIVERIES = 100
# A test waits like all others, and is not refused because of them.
_MOST_TESTS = 1_000_000


def webhooks_router(parts: ConsoleParts) -> APIRouter:
    """Return the routes of web-hooks."""
    router = APIRouter(route_class=JobRoute, tags=["webhooks"])

    @router.post(_PATH, summary="Add a web-hook", status_code=201, responses=errors("TOO_MANY_WEBHOOKS"))
    async def add(asked: NewWebhook, caller: _Caller) -> WebhookBody:
        """Keep an address to call. Its secret is in this response alone; verify the signature of each call with it."""
        try:
            require_allowed_literal(asked.url, parts.webhooks)
        except AddressRefusedError as error:
            raise InvalidConfigError.of("url", str(error)) from error
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            found, secret = await records.add_webhook(connection, parts.box, caller.client_id, asked)
        return WebhookBody(data=WebhookWithSecret(**found.model_dump(), secret=secret))

    @router.get(_PATH, summary="All web-hooks of the client")
    async def list_all(caller: _Caller) -> WebhooksBody:
        """Return the web-hooks, the oldest first."""
        async with request_connection(parts) as connection:
            return WebhooksBody(data=list(await records.list_webhooks(connection, caller.client_id)))

    @router.get(f"{_PATH}/{{webhook_id}}", summary="One web-hook")
    async def get(webhook_id: str, caller: _Caller) -> WebhookBody:
        """Return a web-hook, and how much waits for it."""
        async with request_connection(parts) as connection:
            return WebhookBody(data=(await records.find_webhook(connection, caller.client_id, webhook_id))[1])

    @router.delete(f"{_PATH}/{{webhook_id}}", summary="Remove a web-hook", status_code=204)
    async def delete(webhook_id: str, caller: _Caller) -> Response:
        """Call it no more; what waits for it is dropped."""
        async with request_connection(parts, writing=True) as connection:
            await records.delete_webhook(connection, caller.client_id, webhook_id)
        return Response(status_code=204)

    @router.post(f"{_PATH}/{{webhook_id}}/rotate", summary="Give a web-hook a new secret")
    async def rotate(webhook_id: str, caller: _Caller) -> WebhookBody:
        """Return the new secret, this once. For a day calls are signed with both, so that receivers can change over."""
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            found, secret = await records.rotate_secret(connection, parts.box, caller.client_id, webhook_id)
        return WebhookBody(data=WebhookWithSecret(**found.model_dump(), secret=secret))

    @router.post(f"{_PATH}/{{webhook_id}}/test", summary="Call a web-hook as a test", status_code=202)
    async def test(webhook_id: str, caller: _Caller) -> dict[str, str]:
        """Let it be called once; its deliveries show what became of it."""
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            delivery = await records.add_test(connection, caller.client_id, webhook_id, _MOST_TESTS)
        return {"status": "accepted", "delivery_id": str(delivery)}

    @router.get(f"{_PATH}/{{webhook_id}}/deliveries", summary="The newest deliveries of a web-hook")
    async def deliveries(webhook_id: str, caller: _Caller) -> DeliveriesBody:
        """Return a hundred deliveries, the newest first, with what the receiver answered."""
        async with request_connection(parts) as connection:
            found = await records.list_deliveries(connection, caller.client_id, webhook_id, _SHOWN_DELIVERIES)
        return DeliveriesBody(data=list(found))

    @router.post(f"{_PATH}/{{webhook_id}}/redrive", summary="Send what was given up again")
    async def redrive(webhook_id: str, caller: _Caller) -> RedrivenBody:
        """Let all dead letters wait again, for attempts over a day; a web-hook that was disabled is called again."""
        async with request_connection(parts, writing=True) as connection, transaction(connection):
            return RedrivenBody(data={"redriven": await records.redrive(connection, caller.client_id, webhook_id)})

    return router
