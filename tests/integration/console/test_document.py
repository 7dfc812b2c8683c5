"""The OpenAPI document of the console: complete, and enough for a client that knows nothing else."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from console.routes import PUBLIC_ROUTES
from infra.database.pool import Database
from ingest.gateway.openapi.bodies import BODIES
from standgale.services.console import OnePort
from tests.harnesses.document_client import DocumentClient
from tests.harnesses.job_site import JobSite, job_site
from tests.harnesses.uploads import picture

pytestmark = pytest.mark.integration

GROUPS = ("uploads", "jobs", "results", "monitoring", "webhooks")


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database) as found:
        yield found


@pytest.fixture
async def client(site: JobSite) -> DocumentClient:
    return DocumentClient(site.console, (await site.console.get("/openapi.json", key=None)).json)


async def test_every_operation_is_described_with_its_errors(client: DocumentClient) -> None:
    """C-S2-072."""
    names: list[str] = []
    for path, methods in client.document["paths"].items():
        for method, about in methods.items():
            where = f"{method} {path}"
            names.append(about["operationId"])
            assert about["summary"] and about["tags"], where
            for status, response in about["responses"].items():
                assert response["description"], (where, status)
                assert all(each.get("schema") for each in response.get("content", {}).values()), (where, status)
                if int(status) >= 400 and path != "/api/v1/health" and status != "416":
                    assert response["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody"), where
            is_public = path in ("/api/v1/health", "/api/v1/metrics")
            has_key = not is_public and path not in PUBLIC_ROUTES
            assert ("401" in about["responses"], bool(about["security"])) == (not is_public, has_key), where
            assert ("404" in about["responses"]) >= ("{" in path), where
            assert path == "/detect" or "422" not in about["responses"], where
    assert len(names) == len(set(names))
    # Two models with one name would have names that no program can use.
    assert all(name.isidentifier() for name in (*names, *client.document["components"]["schemas"]))


async def test_every_reference_leads_to_a_schema(client: DocumentClient) -> None:
    references = set(re.findall(r'"\$ref":\s*"#/components/schemas/([^"]+)"', json.dumps(client.document)))
    assert references <= set(client.document["components"]["schemas"])
    # Of the bodies that endpoints read themselves.
    assert "MediaOptions" in references
    shown = client.document["paths"]["/api/v1/jobs/{job_id}/results.zip"]["get"]["responses"]["404"]["content"]
    assert set(shown["application/json"]["examples"]) == {"RESULTS_NOT_READY", "JOB_NOT_FOUND"}


async def test_a_client_that_knows_only_the_document_completes_a_job(client: DocumentClient, site: JobSite) -> None:
    """C-S2-072; each operation of uploads, jobs, results and web-hooks is called."""
    files = [(f"{number}.png", picture("PNG", 640, 480, seed=number)) for number in range(3)]
    sent = (await client.call("uploads_upload", files=files))["data"]
    upload_id, ids = sent["upload_id"], [each["file_id"] for each in sent["uploaded_files"]]
    await client.call("uploads_get_upload", upload_id=upload_id)
    hook = (await client.call("webhooks_add", status=201, body={"url": "https://example.org/hook"}))["data"]
    config = {"confidence_threshold": 0.3, "sahi": {"slice_width": 512}, "visualization": {"show_labels": False}}
    asked = {"upload_id": upload_id, "config": config, "webhook_id": hook["webhook_id"]}
    job_id = (await client.call("jobs_predict", status=202, body=asked))["data"]["job_id"]
    await client.call("jobs_status", job_id=job_id)
    await client.call("results_results", status=404, job_id=job_id)
    frames = await site.publish()
    await site.answer(frames[0])
    await client.call("jobs_status", job_id=job_id)
    await site.answer(frames[1])
    await site.fail(frames[2])
    assert (await client.call("jobs_status", job_id=job_id))["data"]["status"] == "completed"
    await client.call("jobs_get_job", job_id=job_id)
    assert b"event: end\n" in await client.call("jobs_events", job_id=job_id)
    await client.call("monitoring_dashboard")
    await client.call("monitoring_statistics", query={"limit": "1"})
    listed = await client.call("jobs_get_files", query={"limit": "2"}, job_id=job_id)
    assert [each["file_id"] for each in listed["data"]["files"]] == ids[:2]
    for name in ("json", "yolo", "coco", "voc"):
        await client.call("results_results", query={"format": name}, job_id=job_id)
    assert (await client.call("results_labels", job_id=job_id, file_id=ids[0])).startswith(b"0 0.5 ")
    assert (await client.call("results_annotation", job_id=job_id, file_id=ids[0])).startswith(b"<annotation>")
    assert len(zipfile.ZipFile(io.BytesIO(await client.call("results_archive", job_id=job_id))).namelist()) == 4
    await client.call("results_visualization", job_id=job_id)
    await client.call("results_visualization", query={"format": "base64"}, job_id=job_id)
    await client.call("results_visualization", query={"format": "base64", "file_id": ids[0]}, job_id=job_id)
    assert (await client.call("uploads_original", file_id=ids[0])) == files[0][1]
    assert (await client.call("results_annotated", file_id=ids[0])).startswith(b"\xff\xd8")
    await client.call("results_thumbnail", query={"job_id": job_id}, file_id=ids[0])
    again = (await client.call("jobs_retry", status=202, job_id=job_id))["data"]
    await client.call("results_comparison", status=404, job_id=job_id, other_id=again["job_id"])
    await client.call("uploads_delete_upload", status=409, upload_id=upload_id)
    await client.call("jobs_cancel", job_id=again["job_id"])
    await client.call("jobs_cancel", status=409, job_id=job_id)
    await client.call("results_comparison", job_id=job_id, other_id=job_id)
    assert len((await client.call("jobs_list_jobs", query={"limit": "1"}))["data"]["jobs"]) == 1
    await client.call("uploads_delete_upload", status=204, upload_id=upload_id)
    hook_id = hook["webhook_id"]
    await client.call("webhooks_test", status=202, webhook_id=hook_id)
    for name in ("get", "rotate", "deliveries", "redrive"):
        await client.call(f"webhooks_{name}", webhook_id=hook_id)
    await client.call("webhooks_list_all")
    await client.call("webhooks_delete", status=204, webhook_id=hook_id)
    assert client.operations(GROUPS) == client.called


async def test_wrong_requests_have_the_errors_of_the_document(client: DocumentClient) -> None:
    await client.call("uploads_upload", status=400, files=[("a.pdf", b"%PDF-1.7")])
    await client.call("jobs_predict", status=404, body={"upload_id": "upl_none"})
    await client.call("jobs_list_jobs", status=400, query={"limit": "1000"})
    for operation in ("jobs_status", "jobs_get_job", "jobs_cancel", "jobs_retry", "results_results", "results_archive"):
        body = await client.call(operation, status=404, job_id="job_none")
        assert body["error"]["code"] == "JOB_NOT_FOUND", operation


async def test_schemas_of_one_name_are_equal_on_both_sides(client: DocumentClient) -> None:
    """With one port for both, their documents become one."""
    mine, theirs = client.document["components"]["schemas"], {}
    for model in BODIES:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        theirs.update(schema.pop("$defs", {}))
        theirs[model.__name__] = schema
    shared = set(mine) & set(theirs)
    assert {"ErrorBody", "ErrorParts"} <= shared
    assert {name for name in shared if mine[name] != theirs[name]} == set()


async def test_one_document_describes_both_sides(site: JobSite) -> None:
    gateway: Any = FastAPI(title="Standgale gateway", description="Takes frames.")

    @gateway.get("/api/v1/frames", tags=["frames"])
    async def frames() -> str:
        return "frames"

    gateway.openapi()["security"] = [{"DeviceToken": []}]
    OnePort(gateway, site.console.app)
    document = json.loads(json.dumps(gateway.openapi()))
    assert document["info"]["title"] == "Standgale"
    assert document["info"]["description"].startswith("Takes frames.\nTakes pictures from people")
    assert [each["name"] for each in document["tags"]][:2] == ["uploads", "jobs"]
    assert document["paths"]["/api/v1/jobs"]["get"]["security"] == [{"ApiKey": []}, {"KeyAsBearer": []}]
