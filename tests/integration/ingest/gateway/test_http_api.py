"""Health, metrics, CORS and the OpenAPI document."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.openapi.models import OpenAPI

from infra.storage.frames.folder import FolderFrameStore
from ingest.gateway import GatewayParts, create_gateway
from ingest.settings import GatewaySettings
from tests.servers.gateway import PATH, Gateway, running
from tests.servers.gateway_checks import assert_error


async def test_health_and_metrics(gateway: Gateway) -> None:
    assert (await gateway.send()).status == 202
    healthy = await gateway.send(b"", method="GET", path="/api/v1/health", token=None, params={})
    assert healthy.status == 200
    assert healthy.json["status"] == "healthy"
    gateway.health.part("broker").set_not_ready("kafka-7.internal refused")
    ill = await gateway.send(b"", method="GET", path="/api/v1/health", token=None, params={})
    assert ill.status == 503
    assert ill.json["parts"] == {"store": "ready", "broker": "not ready", "gateway": "ready"}
    metrics = await gateway.send(b"", method="GET", path="/api/v1/metrics", token=None, params={})
    assert re.search(r'images_stored_total\{device_id="drone-1"\} [1-9]', metrics.body.decode())
    assert 'http_requests_total{endpoint="/api/v1/frames",method="POST",status="202"}' in metrics.body.decode()


async def test_cors_is_for_the_origins_in_the_settings(tmp_path: Path) -> None:
    async with running(tmp_path, GatewaySettings(cors_origins=("https://map.example",))) as gateway:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Token"}
        friend = {"Origin": "https://map.example"}
        allowed = await gateway.send(b"", method="OPTIONS", headers=friend | asked)
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://map.example"
        continuing = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-range"}
        assert (await gateway.send(b"", method="OPTIONS", headers=friend | continuing)).status == 200
        following = {
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "last-event-id,x-api-key",
        }
        assert (await gateway.send(b"", method="OPTIONS", headers=friend | following)).status == 200
        refused = await gateway.send(b"", method="OPTIONS", headers={"Origin": "https://evil.example"} | asked)
        assert "Access-Control-Allow-Origin" not in refused.headers
        unauthorized = await gateway.send(token=None, headers=friend)
        assert unauthorized.status == 401
        assert unauthorized.headers["Access-Control-Allow-Origin"] == "https://map.example"
        assert "Upload-Offset" in unauthorized.headers["Access-Control-Expose-Headers"]


async def test_openapi_document_lists_responses_and_examples(gateway: Gateway) -> None:
    page = await gateway.send(b"", method="GET", path="/docs", token=None, params={})
    assert page.status == 200
    document = (await gateway.send(b"", method="GET", path="/openapi.json", token=None, params={})).json
    OpenAPI.model_validate(document)
    operation = document["paths"][PATH]["post"]
    assert {"image/jpeg", "multipart/form-data"} <= set(operation["requestBody"]["content"])
    assert set(operation["responses"]) == {"202", "400", "401", "403", "404", "408", "415", "429", "503"}
    examples = operation["responses"]["400"]["content"]["application/json"]["examples"]
    assert {"INVALID_FORMAT", "FILE_TOO_LARGE", "INVALID_DIMENSIONS", "CORRUPTED_FILE", "TOO_COSTLY"} <= set(examples)
    detect = document["paths"]["/api/v1/detect"]["post"]
    assert set(detect["responses"]) == set(operation["responses"]) | {"200", "422", "500"}
    assert "timestamp" in {parameter["name"] for parameter in detect["parameters"]}
    batch = document["paths"]["/api/v1/detect/batch"]["post"]
    assert batch["requestBody"]["content"]["multipart/form-data"]["schema"]["required"] == ["images"]
    assert "TOO_MANY_FILES" in batch["responses"]["400"]["content"]["application/json"]["examples"]
    # The pages show the groups in this order.
    assert next(iter(document["tags"]))["name"] == "frames"
    used = {tag for path in document["paths"].values() for one in path.values() for tag in one["tags"]}
    assert used <= {tag["name"] for tag in document["tags"]}
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert {"device_id", "captured_at", "altitude_m", "metadata"} <= names
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)):
        assert reference in document["components"]["schemas"]


async def test_settings_that_contradict_each_other_are_refused(gateway: Gateway) -> None:
    parts = GatewayParts(GatewaySettings(), gateway.tokens, FolderFrameStore(gateway.frames), gateway.publisher)
    with pytest.raises(Exception, match="max_in_flight_bytes"):
        create_gateway(replace(parts, settings=GatewaySettings(max_in_flight_bytes=1_000_000)))


@pytest.mark.parametrize("path", ["/api/v1/frames/", "/api/v1/health/", "/docs/"])
async def test_a_slash_at_the_end_is_no_redirect_without_tls(gateway: Gateway, path: str) -> None:
    found = await gateway.send(b"", method="GET", path=path, params={})
    assert_error(found, 404, "NOT_FOUND")
