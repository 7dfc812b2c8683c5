"""The middleware of the gateway comes before the framework's own layers."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.gateway.framework import NO_TELEMETRY, GatewayApp, unexpected_response


class Outer:
    """Answers one path itself, and notes the errors of the others."""

    errors: list[Exception]

    def __init__(self, app: ASGIApp, errors: list[Exception]) -> None:
        self._app = app
        self.errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["request_id"] = "req-1"
        if scope["path"] == "/direct":
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": str("app" in scope).encode()})
            return
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 (what the test looks at)
            self.errors.append(error)


async def _request(app: GatewayApp, path: str) -> tuple[int, bytes]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_unexpected_error_has_the_body_of_all_errors_and_reaches_middleware() -> None:
    app, errors = GatewayApp(telemetry=NO_TELEMETRY), list[Exception]()
    app.add_middleware(Outer, errors=errors)
    app.add_exception_handler(Exception, unexpected_response)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    status, body = await _request(app, "/broken")
    assert status == 500
    assert orjson.loads(body)["error_code"] == "INTERNAL_ERROR"
    assert orjson.loads(body)["request_id"] == "req-1"
    assert [str(error) for error in errors] == ["boom"]
    assert await _request(app, "/direct") == (202, b"True")
    assert (await _request(app, "/none"))[0] == 404
