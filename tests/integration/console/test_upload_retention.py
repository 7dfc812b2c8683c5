"""Bytes of uploads are removed after their days, never those that somebody else needs or a job uses."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from console.jobs.config import JobConfig, KeptConfig
from console.jobs.creation import find_files, insert_job
from console.settings import ConsoleSettings
from console.uploads import records
from console.uploads import retention as module
from console.uploads.retention import UploadRetention
from infra.database.pool import Database
from infra.failure.settings import RetrySettings
from tests.harnesses.uploads import Sending, picture, upload
from tests.servers.console import RunningConsole, running_console

pytestmark = pytest.mark.integration

EXPIRE = "UPDATE uploads SET expires_at = now() - interval '1 second', created_at = now() - interval '8 days'"


@pytest.fixture
async def console(tmp_path: Path, database: Database) -> AsyncIterator[RunningConsole]:
    async with running_console(tmp_path, database) as found:
        yield found


async def run(console: RunningConsole, statement: str, *values: object) -> None:
    async with console.database.acquire() as connection:
        await connection.execute(statement, *values)


def pictures(folder: Path) -> list[Path]:
    """The stored pictures, made old, as those of an expired upload are."""
    found = [path for path in (folder / "frames").rglob("*.*") if path.is_file() and path.suffix in (".jpg", ".png")]
    for path in found:
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    return found


def retention(console: RunningConsole) -> UploadRetention:
    return UploadRetention(console.database, console.store, console.parts.settings, RetrySettings())


async def test_bytes_of_an_expired_upload_are_removed(console: RunningConsole, tmp_path: Path) -> None:
    """C-S2-014."""
    file = (await upload(console, ("a.jpg", picture()))).json["data"]["uploaded_files"][0]["file_id"]
    assert await retention(console).remove_some() == 0
    await run(console, EXPIRE)
    assert (await console.get(f"/api/v1/files/{file}/original")).code == "FILE_EXPIRED"
    assert len(pictures(tmp_path)) == 1
    assert await retention(console).remove_some() == 1
    assert pictures(tmp_path) == []
    assert await retention(console).remove_some() == 0
    # No job has used it, so nothing is left of it.
    assert (await console.get(f"/api/v1/files/{file}/original")).code == "FILE_NOT_FOUND"


async def test_bytes_that_another_upload_or_a_device_has_too_stay(console: RunningConsole, tmp_path: Path) -> None:
    for data in (picture(seed=1), picture(seed=2)):
        await upload(console, ("a.jpg", data))
    await run(console, EXPIRE)
    await upload(console, ("again.jpg", picture(seed=1)))
    await run(console, "INSERT INTO devices (id, device_id) VALUES ($1, 'drone-1')", device := uuid4())
    await run(
        console,
        "INSERT INTO images (device_id, image_uri, sha256, captured_at, width, height, format, size_bytes) "
        "SELECT $1, image_uri, sha256, now(), width, height, 'jpeg', size_bytes FROM uploaded_files "
        "ORDER BY captured_at OFFSET 1 LIMIT 1",
        device,
    )
    assert len(pictures(tmp_path)) == 2
    assert await retention(console).remove_some() == 2
    assert len(pictures(tmp_path)) == 2


async def test_an_upload_waits_for_its_job_and_keeps_its_names_then(console: RunningConsole, tmp_path: Path) -> None:
    data = (await upload(console, ("a.jpg", picture()))).json["data"]
    await run(console, EXPIRE)
    await run(
        console,
        "INSERT INTO jobs (id, job_id, client_id, upload_id, config, total_images) "
        "SELECT $1, 'job_aaaabbbb', 'desktop', id, '{}', 1 FROM uploads",
        uuid4(),
    )
    pictures(tmp_path)
    assert await retention(console).remove_some() == 0
    deleting = await console.request("DELETE", f"/api/v1/uploads/{data['upload_id']}")
    assert (deleting.status, deleting.code) == (409, "UPLOAD_IN_USE")
    await run(console, "UPDATE jobs SET status = 'completed', finished_at = now()")
    assert await retention(console).remove_some() == 1
    assert pictures(tmp_path) == []
    file = data["uploaded_files"][0]["file_id"]
    assert (await console.get(f"/api/v1/files/{file}/original")).code == "FILE_EXPIRED"


async def test_bytes_of_a_refused_upload_are_removed(console: RunningConsole, tmp_path: Path) -> None:
    await upload(console, ("a.jpg", picture()), ("b.txt", b"text"))
    assert len(pictures(tmp_path)) == 1
    assert await retention(console).remove_some() == 0
    await run(console, "UPDATE uploads SET created_at = now() - interval '3 hours'")
    assert await retention(console).remove_some() == 1
    assert pictures(tmp_path) == []


class Pausing:
    """Stops a function of a module after its work until the test goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._real = getattr(module, name)
        monkeypatch.setattr(module, name, self._work)

    async def _work(self, *arguments: Any) -> Any:
        found = await self._real(*arguments)
        self.reached.set()
        await self.go_on.wait()
        return found


async def test_two_consoles_at_once_leave_no_bytes_of_equal_uploads(
    console: RunningConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would see that the other upload has the same bytes."""
    for _ in range(2):
        await upload(console, ("a.jpg", picture()))
    await run(console, EXPIRE)
    assert len(pictures(tmp_path)) == 1
    monkeypatch.setattr("console.uploads.retention._AT_ONCE", 1)
    pausing = Pausing(monkeypatch, module, "removable_files")
    first = asyncio.create_task(retention(console).remove_some())
    await pausing.reached.wait()
    second = asyncio.create_task(retention(console).remove_some())
    await asyncio.sleep(0.2)
    pausing.go_on.set()
    assert await first == 1
    await second
    await retention(console).remove_some()
    assert pictures(tmp_path) == []


async def test_bytes_of_an_upload_that_a_job_takes_at_that_moment_stay(
    console: RunningConsole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is committed after the removal has looked for jobs, and before it has locked the upload."""
    sent = (await upload(console, ("a.jpg", picture()))).json["data"]["upload_id"]
    slowly = records._EXPIRED.replace("WHERE", "WHERE (SELECT true FROM pg_sleep(0.4)) AND", 1)
    monkeypatch.setattr(records, "_EXPIRED", slowly)
    async with console.database.acquire(writing=True) as connection, connection.transaction():
        assert await connection.fetchval("SELECT now()")
        await run(console, "UPDATE uploads SET expires_at = clock_timestamp(), created_at = now() - interval '8 days'")
        pictures(tmp_path)
        removing = asyncio.create_task(retention(console).remove_some())
        await asyncio.sleep(0.15)
        config = KeptConfig(asked=JobConfig(), rules=None)
        found, files = await find_files(connection, "desktop", sent, None)
        await insert_job(connection, "desktop", found, files, config, most_open=10)
    assert await removing == 0
    assert len(pictures(tmp_path)) == 1


async def test_an_upload_that_lasts_long_is_not_removed_while_it_is_received(
    tmp_path: Path, database: Database
) -> None:
    settings = ConsoleSettings(upload_timeout_s=86_400)
    async with running_console(tmp_path, database, settings=settings) as console:
        sending = Sending(console)
        await sending.begin()
        await run(console, "UPDATE uploads SET created_at = now() - interval '20 hours'")
        assert await retention(console).remove_some() == 0
        assert (await sending.end()).status == 200


@pytest.mark.parametrize("more", [True, False], ids=["another file", "its end"])
async def test_an_upload_that_was_removed_meanwhile_is_refused(console: RunningConsole, more: bool) -> None:
    """The process stood still for hours, or the clock of the database was set."""
    sending = Sending(console, more=more)
    await sending.begin()
    await run(console, "UPDATE uploads SET created_at = now() - interval '30 hours'")
    assert await retention(console).remove_some() == 1
    response = await sending.end()
    assert (response.status, response.code) == (408, "UPLOAD_TIMEOUT")
    assert "removed" in response.json["message"]
