"""Versions, what is deprecated, CORS and rules of access of every route (C-S2-073, C-S2-090, C-S2-131)."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from starlette.routing import Route

from infra.http_api.versions import Deprecation
from infra.storage.originals.folder import UPLOAD_PATH
from infra.telemetry.logs import configure_logging
from infra.telemetry.settings import TelemetrySettings
from ingest.flights.flight import Flights
from ingest.settings import GatewaySettings
from schemas.frame_messages import STREAM_PATH
from tests.paths import ROOT
from tests.servers.gateway import FRAME, TOKEN, WHEN, Gateway, running

PUBLIC = {
    ("GET", "/api/v1/health"),
    ("GET", "/api/v1/metrics"),
    ("GET", "/api/v1/schemas"),
    ("GET", "/api/v1/schemas/{name}"),
}
"""The routes that need no token, and why: they tell nothing about devices, and a balancer has no token."""
SIGNED = f"{UPLOAD_PATH}/{{device}}/{{sha256}}"
"""The address of an upload, which is signed for one device and time."""
PAGES = {"/api/v1/errors", "/api/v1/errors/{code}", "/openapi.json", "/docs", "/docs/assets/{name}", "/redoc"}
ORIGIN = "https://map.example"
NO_FLIGHTS = cast(Flights, object())
OLD = (
    Deprecation("GET", "/api/v1/schemas", date(2026, 1, 31), "https://docs.example/v2", ends=date(2027, 2, 1)),
    Deprecation("POST", "/api/v1/frames", date(2026, 3, 1), "https://docs.example/yaw", field="heading_deg"),
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(
        tmp_path, GatewaySettings(cors_origins=(ORIGIN,)), flights=NO_FLIGHTS, deprecated=OLD
    ) as started:
        yield started


async def _document(gateway: Gateway) -> dict[str, Any]:
    page = await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})
    document: dict[str, Any] = page.json
    return document


async def _routes(gateway: Gateway) -> list[tuple[str, str, dict[str, Any]]]:
    paths = (await _document(gateway))["paths"]
    return [(method.upper(), path, one) for path, methods in paths.items() for method, one in methods.items()]


async def test_every_route_is_documented_and_needs_a_token_or_is_public(gateway: Gateway) -> None:
    routes = await _routes(gateway)
    documented = {path for _, path, _ in routes}
    assert gateway.app is not None
    assert {route.path for route in gateway.app.routes if isinstance(route, Route)} == documented | PAGES
    for method, path, operation in routes:
        place = path.replace("{flight}", "north").replace("{name}", "asyncapi.yaml")
        if (method, path) in PUBLIC:
            assert "security" not in operation
            continue
        if path == STREAM_PATH:
            # Its token may also be in the first message of the WebSocket.
            assert (await gateway.send(b"", method=method, path=path, token=None)).status == 426
            continue
        if path == SIGNED:
            place = SIGNED.format(device="drone-1", sha256="0" * 64)
            assert (await gateway.send(b"", method=method, path=place, token=None)).status in (400, 403)
            continue
        assert operation["security"] == [{"DeviceToken": []}, {"Bearer": []}]
        for token in (None, "stg_wrong_0123456789"):
            sent = await gateway.send(b"", method=method, path=place, token=token)
            assert (sent.status, sent.json["error_code"]) == (401, "UNAUTHORIZED")


async def test_deprecated_route_and_field_have_headers_and_a_mark_in_the_document(gateway: Gateway) -> None:
    old = await gateway.send(b"", method="GET", path="/api/v1/schemas", token=None, params={})
    assert old.headers["Deprecation"] == "@1769817600"
    assert old.headers["Sunset"] == "Mon, 01 Feb 2027 00:00:00 GMT"
    assert old.headers["Link"] == '<https://docs.example/v2>; rel="deprecation"; type="text/html"'
    assert "Deprecation" not in (await gateway.send()).headers
    form = aiohttp.FormData()
    form.add_field("image", FRAME, filename="a.jpg", content_type="image/jpeg")
    form.add_field("heading_deg", "12")
    for used in (
        await gateway.send(params={"captured_at": WHEN, "heading_deg": "12"}),
        await gateway.send(headers={"X-Standgale-Heading-Deg": "12"}),
        await gateway.send(form),
        await gateway.send(params={"captured_at": "noon", "heading_deg": "12"}),
    ):
        assert used.status in (202, 400)
        assert used.headers["Deprecation"] == "@1772323200"
        assert "Sunset" not in used.headers
    paths = (await _document(gateway))["paths"]
    assert paths["/api/v1/schemas"]["get"]["deprecated"]
    frames = paths["/api/v1/frames"]["post"]
    assert [one["name"] for one in frames["parameters"] if one.get("deprecated")] == ["heading_deg"]
    assert frames["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["heading_deg"]["deprecated"]
    assert "deprecated" not in paths["/api/v1/detect"]["post"]


async def test_every_route_has_preflight_credentials_and_exposed_headers(gateway: Gateway) -> None:
    for method, path, _ in await _routes(gateway):
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": method}
        headers = asked | {"Access-Control-Request-Headers": "X-API-Token, X-Standgale-Captured-At, Traceparent"}
        preflight = await gateway.send(b"", method="OPTIONS", path=path, token=None, headers=headers)
        assert preflight.status == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
        assert preflight.headers["X-API-Version"] == "1.0"
    sent = await gateway.send(headers={"Origin": ORIGIN})
    exposed = {name.strip() for name in sent.headers["Access-Control-Expose-Headers"].split(",")}
    assert {"X-Request-ID", "X-API-Version", "Retry-After", "Deprecation", "Sunset", "RateLimit"} <= exposed
    assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= exposed
    assert "Origin" in sent.headers["Vary"]


async def test_all_origins_are_allowed_only_without_credentials(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(cors_origins=("*",))) as gateway:
        sent = await gateway.send(headers={"Origin": ORIGIN, "Cookie": "session=1"})
        assert sent.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in sent.headers


@pytest.mark.parametrize("origin", ["map.example", "https://map.example/", "https://a b", "null", "https://x?y"])
def test_cors_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"gateway\.cors_origins"):
        GatewaySettings(cors_origins=(origin,))


async def test_clients_cannot_forge_lines_of_the_log(gateway: Gateway) -> None:
    root, out = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    try:
        configure_logging(TelemetrySettings(log_format="text", log_level="DEBUG"), service="test", stream=out)
        evil = "a%0a12:00:00 INFO root: forged%1b[2J%e2%80%ae%0d"
        await gateway.send(path=f"/api/v1/flights/{evil}", params={"token": TOKEN, "x\n": "y\x1b[31m"})
        await gateway.send(path=f"/{evil}", method="GET", params={"password": "hunter2hunter2"})
        for name in ("device_id", "original_filename", "metadata", "priority", "captured_at", "flight", "x\ny"):
            await gateway.send(params={"captured_at": WHEN, name: "b\r\n12:00:00 INFO root: forged \x1b]0;x\x07"})
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
    written = out.getvalue()
    lines = written.splitlines()
    assert len(lines) > 5
    assert not any(line.startswith("12:00:00 INFO root: forged") for line in lines)
    assert all(line.isprintable() for line in lines if not line.startswith(" "))
    assert TOKEN not in written
    assert "hunter2" not in written


async def test_page_of_the_api_has_every_endpoint_and_error_code(gateway: Gateway) -> None:
    """C-S2-086, C-S2-222: the page says of each error whether the same request may be sent again."""
    page = (ROOT / "docs" / "api.md").read_text()
    for method, path, operation in await _routes(gateway):
        assert method == "HEAD" or f"`{method} {path}`" in page
        for status, response in operation["responses"].items():
            for code in response.get("content", {}).get("application/json", {}).get("examples", {}):
                assert re.search(
                    rf"^\| {status} \|[^|]*`{code}`[^|]*\|[^|]+\| (no|yes|with|it|when|from)", page, re.MULTILINE
                )
