"""The console's app around its rooms: keys, bodies, errors, documents, and one port with the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request

from console.http.callers import PUBLIC, Caller, caller_of, public_paths
from console.settings import ConsoleSettings
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from infra.process.health import Health
from infra.process.http_server import HttpComponent
from standgale.services.console import OnePort
from tests.servers.console import ConsoleResponse, RunningConsole, running_console

pytestmark = pytest.mark.integration


is_public = public_paths(PUBLIC)


def echo_route() -> APIRouter:
    routes = APIRouter()

    @routes.post("/api/v1/echo")
    async def echo(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> dict[str, Any]:
        return {"client": caller.client_id, "body": await request.json()}

    return routes


@pytest.fixture
async def console(tmp_path: Path, database: Database) -> AsyncIterator[RunningConsole]:
    settings = ConsoleSettings(max_body_bytes=2_000, body_timeout_s=0.5, max_bodies=2)
    async with running_console(tmp_path, database, settings=settings, also=[echo_route()]) as found:
        yield found


async def test_a_request_with_a_key_reaches_its_route_and_has_all_headers(console: RunningConsole) -> None:
    response = await console.post("/api/v1/echo", json={"a": 1})
    assert response.json == {"client": "desktop", "body": {"a": 1}}
    assert response.headers["X-API-Version"] == "1.0"
    assert response.headers["X-Request-ID"]


async def test_a_new_key_is_accepted_with_the_first_request(console: RunningConsole) -> None:
    """It was 401 until the keys were read again."""
    key = await ApiKeys(console.database).add("tablet")
    assert (await console.post("/api/v1/echo", json={}, key=key)).json["client"] == "tablet"


async def test_errors_have_one_body(console: RunningConsole) -> None:
    for response, status, code in (
        (await console.post("/api/v1/echo", json={}, key="sgk_no"), 401, "UNAUTHORIZED"),
        (await console.post("/api/v1/echo", json={}, key=None), 401, "UNAUTHORIZED"),
        (await console.get("/api/v1/nothing"), 404, "NOT_FOUND"),
        (await console.get("/api/v1/echo"), 405, "METHOD_NOT_ALLOWED"),
        (await console.post("/api/v1/echo", json="x" * 3_000), 413, "BODY_TOO_LARGE"),
    ):
        assert (response.status, response.code) == (status, code)


async def test_get_routes_refuse_a_query_name_they_do_not_have(console: RunningConsole, tmp_path: Path) -> None:
    """A misspelt one was ignored, and the results came in another format than was meant."""
    routes = [path for path, methods in console.app.openapi()["paths"].items() if "get" in methods]
    routes = [path for path in routes if not is_public(path)]
    assert len(routes) > 20
    for path in routes:
        asked = path.replace("{job_id}", "job_a1b2c3d4e5f6g7h8").replace("{", "").replace("}", "")
        response = await console.get(f"{asked}?formt=yolo")
        assert (response.status, response.code, response.json["field"]) == (400, "INVALID_CONFIG", "formt"), path
    near = await console.get("/api/v1/jobs/job_a1b2c3d4e5f6g7h8/results?formt=yolo")
    assert near.json["errors"] == [{"field": "formt", "error": "Is not known; format is"}]
    none = await console.get("/api/v1/jobs/job_a1b2c3d4e5f6g7h8/status?verbose=1")
    assert none.json["errors"] == [{"field": "verbose", "error": "Is not known; this path takes none"}]


async def test_query_is_checked_without_making_the_whole_document(console: RunningConsole) -> None:
    """It takes a third of a second, in which no other request is served."""
    response = await console.get("/api/v1/jobs/job_a1b2c3d4e5f6g7h8/results?formt=yolo")
    assert (response.status, response.json["field"]) == (400, "formt")
    assert console.app.openapi_schema is None


async def test_a_large_picture_without_its_content_type_names_the_header(console: RunningConsole) -> None:
    """As `curl --data-binary @photo.jpg` sends it."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/api/v1/echo", "/api/v1/inference/upload"):
        response = await console.post(path, data=b"\xff\xd8\xff" + bytes(5_000), headers=form)
        assert (response.status, response.code) == (413, "BODY_TOO_LARGE")
        assert "'application/x-www-form-urlencoded'. A picture is sent in a form" in response.json["details"]
    assert (await console.post("/api/v1/echo", json="x" * 3_000)).json["details"] == "Send less in one request."


async def test_a_device_token_is_not_called_expired(console: RunningConsole) -> None:
    response = await console.get("/api/v1/jobs", key="stg_wrong")
    assert "device token" in response.json["message"]
    assert "expired" not in response.json["details"]


async def test_a_method_that_a_path_does_not_take_names_those_that_it_takes(console: RunningConsole) -> None:
    for path, allowed in (
        ("/api/v1/echo", "POST"),
        ("/api/v1/health", "GET"),
        ("/api/v1/uploads/upl_1", "DELETE, GET"),
        ("/docs", "GET, HEAD"),
    ):
        response = await console.request("PUT", path)
        assert (response.status, response.headers["Allow"]) == (405, allowed), path


async def test_bodies_without_a_length_and_slow_ones_are_limited_too(console: RunningConsole) -> None:
    async def pieces(count: int, wait_s: float) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1_000
            await asyncio.sleep(wait_s)

    json = {"Content-Type": "application/json"}
    assert (await console.post("/api/v1/echo", data=pieces(5, 0.0), headers=json)).code == "BODY_TOO_LARGE"
    assert (await console.post("/api/v1/echo", data=pieces(2, 1.0), headers=json)).code == "UPLOAD_TIMEOUT"


async def test_json_bodies_have_places_beside_uploads_and_each_client_its_share(
    console: RunningConsole,
) -> None:
    """Uploads that take all their places keep no job waiting; one client has half of the places at most."""
    waiting, go_on, other = asyncio.Event(), asyncio.Event(), await console.other_client()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        waiting.set()
        await go_on.wait()
        yield b"}"

    async def half(key: str) -> ConsoleResponse:
        headers = {"Content-Type": "application/json"}
        return await console.post("/api/v1/echo", data=slowly(), headers=headers, key=key)

    with ExitStack() as stack:
        for number in range(console.parts.settings.max_uploads):
            stack.enter_context(console.parts.slots.reserve(1_000, f"uploader-{number}"))
        assert (await console.post("/api/v1/echo", json={})).status == 200
        first = asyncio.create_task(half(""))
        await waiting.wait()
        refused = await console.post("/api/v1/echo", json={})
        assert (refused.status, refused.code) == (503, "OVERLOADED")
        assert (await console.post("/api/v1/echo", json={}, key=other)).status == 200
        go_on.set()
        assert (await first).status == 200


async def test_pages_and_document_are_public(console: RunningConsole) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/api/v1/metrics"):
        assert (await console.get(path, key=None)).status == 200, path
    document = (await console.get("/openapi.json", key=None)).json
    assert "/api/v1/echo" in document["paths"]
    assert document["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"


async def test_one_port_serves_both_sides_and_one_document(console: RunningConsole) -> None:
    gateway = FastAPI()

    @gateway.get("/api/v1/frames")
    async def frames() -> str:
        return "frames"

    server = HttpComponent("both", OnePort(gateway, console.app), host="127.0.0.1", port=0)
    console.port, stop = server.bind(), asyncio.Event()
    task = asyncio.create_task(server.run(stop, Health().part("both")))
    try:
        assert (await console.get("/api/v1/frames", key=None)).json == "frames"
        assert (await console.post("/api/v1/echo", json={}, key=None)).status == 401
        assert (await console.get("/api/v1/echo")).status == 405
        assert {"/api/v1/frames", "/api/v1/echo"} <= set((await console.get("/openapi.json")).json["paths"])
    finally:
        stop.set()
        await task
