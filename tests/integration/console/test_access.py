"""Every route of the console asks for a key, and shows nothing of one client to another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from console.http.callers import PUBLIC as PUBLIC_PATHS
from console.routes import PUBLIC_ROUTES
from infra.database.pool import Database
from ingest.limits.settings import LimitsSettings
from tests.harnesses.job_site import JobSite, job_site
from tests.harnesses.uploads import picture, upload

pytestmark = pytest.mark.integration

IN_S3 = "s3://training-datasets/a/"
PUBLIC = (*PUBLIC_PATHS, *PUBLIC_ROUTES)


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    # More wrong keys come from one address than the usual limit lets pass.
    async with job_site(tmp_path, database, limits=LimitsSettings(bad_tokens_per_minute=1_000)) as found:
        yield found


async def operations(site: JobSite) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of each operation that needs a key."""
    paths = (await site.console.get("/openapi.json", key=None)).json["paths"]
    return [
        (method.upper(), path, about)
        for path, methods in paths.items()
        for method, about in methods.items()
        if path not in PUBLIC
    ]


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """The paths of all routes, also of those that are served and not described."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route.path
        else:
            yield from paths_of(included.routes)


async def things_of(site: JobSite) -> dict[str, str]:
    """A completed job with its upload, a file, and a web-hook, by the names that paths have for them."""
    sent = (await upload(site.console, ("a.jpg", picture()))).json["data"]
    job_id = (await site.ask(sent["upload_id"])).json["data"]["job_id"]
    await site.answer(*await site.publish())
    hook = await site.console.post("/api/v1/webhooks", json={"url": "https://example.org/hook"})
    asked = {"checkpoint_path": "model:a@1", "inference_type": "batch", "input_data": {"image_paths": [IN_S3]}}
    inference = (await site.console.post("/api/v1/test_inference/inference/jobs", json=asked)).json
    return {
        "media_id": "flight-7",
        "inference_job_id": str(inference["id"]),
        "upload_id": sent["upload_id"],
        "file_id": sent["uploaded_files"][0]["file_id"],
        "job_id": job_id,
        "other_id": job_id,
        "webhook_id": hook.json["data"]["webhook_id"],
    }


async def test_the_document_has_all_routes_that_need_a_key(site: JobSite) -> None:
    described = {path for _, path, _ in await operations(site)}
    assert set(paths_of(site.console.app.routes)) - set(PUBLIC) == described


async def test_without_a_valid_key_every_route_responds_401(site: JobSite) -> None:
    found = await operations(site)
    assert len(found) >= 27
    for method, path, _ in found:
        for key in (None, "sgk_wrong", "stg_wrong"):
            response = await site.console.request(method, path.format_map(_AnyId()), key=key)
            assert (response.status, response.code) == (401, "UNAUTHORIZED"), (method, path, key)
            assert response.headers["WWW-Authenticate"].startswith("Bearer"), (method, path)


async def test_things_of_a_client_do_not_exist_for_another(site: JobSite) -> None:
    """C-S2-032, C-S2-045, C-S2-081: the response is that of ids which no client has."""
    mine, other = await things_of(site), await site.console.other_client()
    for method, path, _ in await operations(site):
        # The id of a medium is what a client calls its own.
        if "{" not in path or (method, path) == ("POST", "/detect/{media_id}"):
            continue
        address = path.format_map(mine)
        theirs = await site.console.request(method, address, key=other)
        unknown = await site.console.request(method, path.format_map(_AnyId()), key=other)
        assert theirs.status == 404, (method, path)
        assert (unknown.status, unknown.code) == (404, theirs.code), (method, path)
        assert not set(mine.values()) & set(str(theirs.json["error"]["details"]).split()), (method, path)
    for path in ("/api/v1/jobs", "/api/v1/webhooks", f"/api/v1/jobs?upload_id={mine['upload_id']}"):
        listed = await site.console.get(path, key=other)
        assert not any(each in listed.body.decode() for each in mine.values()), path
    body = {"upload_id": mine["upload_id"]}
    assert (await site.console.post("/api/v1/inference/predict", json=body, key=other)).code == "UPLOAD_NOT_FOUND"
    kept = await site.console.get(f"/api/v1/uploads/{mine['upload_id']}")
    assert (kept.status, (await site.status(mine["job_id"]))["status"]) == (200, "completed")
    assert (await site.console.get(f"/api/v1/webhooks/{mine['webhook_id']}")).status == 200


async def test_things_of_another_client_are_refused_inside_of_requests(site: JobSite) -> None:
    mine, other = await things_of(site), await site.console.other_client()
    theirs = (await upload(site.console, ("b.jpg", picture(seed=2)), key=other)).json["data"]["upload_id"]
    for body in (
        {"upload_id": theirs, "file_ids": [mine["file_id"]]},
        {"upload_id": theirs, "webhook_id": mine["webhook_id"]},
    ):
        response = await site.console.post("/api/v1/inference/predict", json=body, key=other)
        assert (response.status, response.code) == (400, "INVALID_CONFIG"), body
    query = f"?job_id={mine['job_id']}"
    own = (await site.console.get(f"/api/v1/uploads/{theirs}", key=other)).json["data"]["uploaded_files"][0]["file_id"]
    assert (await site.console.get(f"/api/v1/files/{own}/annotated{query}", key=other)).code == "JOB_NOT_FOUND"


class _AnyId(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return f"{name[:3]}_nobodyhasthisid0"
