"""The HTTP middleware: request ids, bounded metrics, trace context."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from fastapi import APIRouter, FastAPI
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from infra.process.health import Health
from infra.process.http_server import HttpComponent
from infra.telemetry.http import HttpTelemetry, note_failure
from infra.telemetry.logs import current_ids
from infra.telemetry.tracing import current_trace

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def build() -> HttpTelemetry:
    app = FastAPI()
    router = APIRouter(prefix="/api/v1")

    @router.get("/things/{thing}")
    async def thing(request: Request, thing: str) -> dict[str, str | None]:
        return {
            "state": request.state.request_id,
            "current_ids": current_ids()["request_id"],
            "traceparent": current_trace().traceparent,
        }

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    @router.get("/refused")
    async def refused(request: Request) -> PlainTextResponse:
        note_failure(request.scope, "FULL", "the disk is full")
        return PlainTextResponse("full", 503)

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"

        return StreamingResponse(body(), media_type="text/event-stream")

    @app.get("/plain")
    async def plain() -> PlainTextResponse:
        return PlainTextResponse("ok")

    app.include_router(router)
    return HttpTelemetry(app)


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    component = HttpComponent("test-http", build(), host="127.0.0.1", port=0)
    stop = asyncio.Event()
    serving = asyncio.create_task(component.run(stop, Health().part("test-http")))
    async with ClientSession(f"http://127.0.0.1:{component.bind()}") as client:
        yield client
    stop.set()
    await serving


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_given_request_id_is_kept_and_everywhere(client: ClientSession) -> None:
    response = await client.get("/api/v1/things/7", headers={"X-Request-ID": "abc-1", "traceparent": PARENT})
    assert response.headers["x-request-id"] == "abc-1"
    assert await response.json() == {"state": "abc-1", "current_ids": "abc-1", "traceparent": PARENT}
    assert "request_id" not in current_ids()


@pytest.mark.parametrize("odd", ["", "a b", "x" * 129, 'a"b', "a/b"])
async def test_an_odd_request_id_is_replaced(client: ClientSession, odd: str) -> None:
    response = await client.get("/api/v1/things/7", headers={"X-Request-ID": odd})
    assert response.headers["x-request-id"].startswith("req-")


async def test_requests_are_counted_by_template(client: ClientSession) -> None:
    labels = {"method": "GET", "endpoint": "/api/v1/things/{thing}", "status": "200"}
    before = value("http_requests_total", **labels), value("api_requests_total", **labels)
    for number in range(3):
        assert (await client.get(f"/api/v1/things/{number}")).status == 200
    assert value("http_requests_total", **labels) == before[0] + 3
    assert value("api_requests_total", **labels) == before[1] + 3
    assert value("http_request_duration_seconds_count", method="GET", endpoint="/api/v1/things/{thing}") >= 3


async def test_unknown_paths_and_methods_share_one_label(client: ClientSession) -> None:
    labels = {"method": "GET", "endpoint": "unmatched", "status": "404"}
    before = value("http_requests_total", **labels)
    await client.get("/a/b/c")
    await client.get("/d")
    assert value("http_requests_total", **labels) == before + 2
    await client.request("PROPFIND", "/plain")
    assert value("http_requests_total", method="OTHER", endpoint="/plain", status="405") >= 1


async def test_request_outside_api_counts_only_in_http_requests(client: ClientSession) -> None:
    labels = {"method": "GET", "endpoint": "/plain", "status": "200"}
    await client.get("/plain")
    assert value("http_requests_total", **labels) >= 1
    assert value("api_requests_total", **labels) == 0


async def test_a_crash_counts_as_500(client: ClientSession) -> None:
    labels = {"method": "GET", "endpoint": "/api/v1/broken", "status": "500"}
    before = value("http_requests_total", **labels)
    assert (await client.get("/api/v1/broken")).status == 500
    assert value("http_requests_total", **labels) == before + 1


async def test_a_stream_is_counted(client: ClientSession) -> None:
    assert await (await client.get("/api/v1/stream")).text() == "data: 1\n\n"
    assert value("http_requests_total", method="GET", endpoint="/api/v1/stream", status="200") >= 1


async def test_a_failed_request_has_one_line_and_a_flood_of_them_some(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(1, 31):
        assert (await client.get("/api/v1/refused")).status == 503
        lines = [record for record in caplog.records if record.name == "infra.telemetry.http"]
        assert len(lines) == min(number, 5)
    assert lines[0].message == "GET /api/v1/refused: response 503: the disk is full"
    assert lines[0].code == "FULL"  # type: ignore[attr-defined]  # from extra


async def test_request_without_a_route_is_logged_with_its_path(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    """It was called unmatched, as in the metrics, which have few labels."""
    caplog.set_level(logging.DEBUG, "infra")
    await client.get("/api/v1/nothing%0Ahere")
    assert "GET /api/v1/nothing?here: response 404" in caplog.messages


async def test_long_paths_and_trace_headers_are_cut_before_they_are_used(
    client: ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "infra")
    headers = {"traceparent": PARENT + "0" * 7_000, "tracestate": "a=1," * 1_900}
    response = await client.get("/api/v1/things/7", headers=headers)
    assert PARENT.split("-")[1] not in str((await response.json())["traceparent"])
    await client.get("/" + "a" * 7_000)
    assert max(map(len, caplog.messages)) < 500
