"""Inference jobs as Jobs of a cluster, whose API is a stand-in that runs what a Job says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from console.inference_jobs.kubernetes import Cluster, KubernetesLauncher
from console.inference_jobs.process import Ended
from infra.deploy.s3 import S3Server
from infra.failure.settings import RetrySettings
from tests.harnesses.inference import base_environment, jobs_settings, receiver, site
from tests.servers.http import serving

pytestmark = pytest.mark.integration

RETRY = RetrySettings(first_delay_s=0.05, max_delay_s=0.1)


@dataclass
class Api:
    """Keeps Jobs and Secrets as the API of a cluster does; ``faults`` are statuses that come first."""

    faults: list[int] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers["Authorization"])
        if self.faults:
            return web.json_response({"message": "not now"}, status=self.faults.pop(0))
        kept = self.jobs if request.path.startswith("/apis/batch/v1/namespaces/tests/jobs") else self.secrets
        if request.method == "POST":
            body = await request.json()
            name = body["metadata"]["name"]
            if name in kept:
                return web.json_response({"reason": "AlreadyExists"}, status=409)
            kept[name] = {**body, "metadata": {**body["metadata"], "uid": "uid-1"}}
            return web.json_response(kept[name], status=201)
        found = kept.get(request.path.rpartition("/")[2])
        return web.json_response(found or {"reason": "NotFound"}, status=404 if found is None else 200)

    def end(self, name: str, kind: str) -> None:
        self.jobs[name]["status"] = {"conditions": [{"type": kind, "status": "True", "reason": "BackoffLimitExceeded"}]}


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, str]]:
    found = Api()
    async with serving(found.handle) as url:
        yield found, url


def launcher(url: str, folder: Path, server: S3Server) -> KubernetesLauncher:
    folder.joinpath("token").write_text("of-this-pod\n")
    folder.joinpath("namespace").write_text("tests\n")
    settings = jobs_settings(server, run="kubernetes", callback_url="http://console:8001")
    return KubernetesLauncher(Cluster(url, folder), settings, RETRY, poll_s=0.05)


async def running(api: Api, name: str) -> None:
    async with asyncio.timeout(10):
        while name not in api.secrets:  # noqa: ASYNC110 (the stand-in has no event)
            await asyncio.sleep(0.02)


async def test_the_container_of_a_job_does_what_a_process_does(
    api: tuple[Api, str], tmp_path: Path, s3_server: S3Server
) -> None:
    """C-S4-060, C-S4-062: the same command with the same environment posts the same results."""
    found, url = api
    found.faults = [503, 429]
    async with site(s3_server) as place, receiver() as hook:
        variables = place.variables(
            IMAGE_PATHS=await place.put_pictures(1),
            CHECKPOINT_PATH=await place.put_model(tmp_path),
            CALLBACK_URL=hook.url,
            CALLBACK_TOKEN="of-the-job",
        )
        secrets = {name: variables.pop(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        task = asyncio.create_task(launcher(url, tmp_path, s3_server).run(456, variables))
        await running(found, "inference-job-456")
        [container] = found.jobs["inference-job-456"]["spec"]["template"]["spec"]["containers"]
        secrets["CALLBACK_TOKEN"] = found.secrets["inference-job-456"]["stringData"]["callback-token"]
        environment = {each["name"]: each.get("value") or secrets[each["name"]] for each in container["env"]}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", *container["command"]), env={**base_environment(tmp_path), **environment}
        )
        assert await process.wait() == 0
        found.end("inference-job-456", "Complete")
        assert await task == Ended("its Job is complete, but no result came")
    assert found.tokens == {"Bearer of-this-pod"}
    assert (hook.posted[0]["status"], hook.tokens) == ("completed", ["Bearer of-the-job"])


async def test_a_console_watches_the_job_of_another_and_reports_its_failure(
    api: tuple[Api, str], tmp_path: Path, s3_server: S3Server
) -> None:
    """C-S4-036."""
    found, url = api
    variables = {"CALLBACK_TOKEN": "of-the-job"}
    first = asyncio.create_task(launcher(url, tmp_path, s3_server).run(7, variables))
    await running(found, "inference-job-7")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = asyncio.create_task(launcher(url, tmp_path, s3_server).run(7, variables))
    found.end("inference-job-7", "Failed")
    ended = await second
    assert ended.final
    assert "BackoffLimitExceeded" in ended.reason
    assert len(found.jobs) == 1


async def test_a_job_that_the_cluster_refuses_has_failed_with_its_reason(
    api: tuple[Api, str], tmp_path: Path, s3_server: S3Server
) -> None:
    found, url = api
    found.faults = [403]
    ended = await launcher(url, tmp_path, s3_server).run(7, {"CALLBACK_TOKEN": "of-the-job"})
    assert ended.final
    assert "HTTP 403" in ended.reason
