"""Reads the bodies and queries of requests about jobs: what is wrong with them has errors of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from console.jobs.faults import config_error, unreadable_body
from infra.http_api.errors.api_errors import UnsupportedMediaTypeError

_LONGEST_TYPE = 100


class JobRoute(APIRoute):
    """Is a route whose body is JSON; what is wrong with its fields or its query is InvalidConfigError."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the framework, with errors of its validation translated."""
        handle = super().get_route_handler()

        async def handle_job(request: Request) -> Response:
            if self.body_field is not None:
                _require_json(request)
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise config_error(error.errors()) from error
            except HTTPException as error:
                # What the framework says of a body that its reader of JSON does not refuse by itself.
                if error.status_code != 400 or self.body_field is None:
                    raise
                raise unreadable_body(error.__cause__) from error

        return handle_job


def _require_json(request: Request) -> None:
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    raise UnsupportedMediaTypeError(
        f"the Content-Type is {given[:_LONGEST_TYPE]!r}; this path takes application/json",
        details='Send JSON with the header "Content-Type: application/json"; pictures are uploaded by POST '
        "/api/v1/inference/upload.",
        field="Content-Type",
    )
