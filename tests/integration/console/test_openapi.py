"""Runs schemathesis against a running console: its OpenAPI document is complete and right (C-S2-072)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.media.settings import MediaSettings
from console.settings import ConsoleSettings
from infra.database.pool import Database
from tests.harnesses.job_site import job_site
from tests.harnesses.openapi_check import check_document, failures_of
from tests.harnesses.uploads import picture, upload

pytestmark = pytest.mark.integration

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


async def test_the_document_agrees_with_the_responses(tmp_path: Path, database: Database) -> None:
    settings = ConsoleSettings(body_timeout_s=2.0, upload_timeout_s=2.0)
    media = MediaSettings(answer_timeout_s=0.05, receive_timeout_s=2.0)
    async with job_site(tmp_path, database, settings, media=media) as site:
        console = site.console
        sent = (await upload(console, ("a.jpg", picture()))).json["data"]
        job_id = (await site.ask(sent["upload_id"])).json["data"]["job_id"]
        await site.answer(*await site.publish())
        status, output = await check_document(
            f"{console.url}/openapi.json",
            CONFIGURATION,
            tmp_path,
            f"X-API-Key: {console.key}",
            CHECKED_JOB=job_id,
            CHECKED_FILE=sent["uploaded_files"][0]["file_id"],
        )
        paths = (await console.get("/openapi.json", key=None)).json["paths"]
    assert status == 0, failures_of(output)
    assert f"Tested: {sum(len(methods) for path, methods in paths.items() if not path.endswith('/stream'))}" in output
    generated = re.search(r"(\d+) generated", output)
    assert generated is not None
    assert int(generated[1]) > 300
