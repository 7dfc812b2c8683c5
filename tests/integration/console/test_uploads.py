"""Uploads: what is accepted and refused, and that files come back byte for byte to their client alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from console.settings import ConsoleSettings
from infra.auth.tokens import ApiKeys
from infra.database.pool import Database
from tests.harnesses.uploads import UPLOAD, Sending, form, picture, upload
from tests.servers.console import RunningConsole, running_console

pytestmark = pytest.mark.integration

LIMITS = ConsoleSettings(max_files=3, max_file_bytes=60_000, max_side_px=300, upload_timeout_s=2.0, max_open_uploads=5)


@pytest.fixture
async def console(tmp_path: Path, database: Database) -> AsyncIterator[RunningConsole]:
    async with running_console(tmp_path, database, settings=LIMITS) as found:
        yield found


async def count(console: RunningConsole, table: str) -> int:
    async with console.database.acquire() as connection:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))


async def test_an_upload_has_its_files_in_order_as_recognised_by_content(console: RunningConsole) -> None:
    """C-S2-001, C-S2-002."""
    files = [("image1.jpg", picture()), ("image2.jpg", picture("PNG", 64, 70)), ("ü/../3.tif", picture("TIFF"))]
    response = await upload(console, *files)
    assert response.status == 200
    body = response.json
    assert (body["status"], body["message"]) == ("success", "3 images uploaded successfully")
    assert body["data"]["upload_id"].startswith("upl_")
    found = body["data"]["uploaded_files"]
    assert [(each["filename"], each["format"], each["dimensions"]) for each in found] == [
        ("image1.jpg", "JPEG", [96, 80]),
        ("image2.jpg", "PNG", [64, 70]),
        ("3.tif", "TIFF", [96, 80]),
    ]
    assert [each["size_bytes"] for each in found] == [len(data) for _, data in files]
    for each, (_, data) in zip(found, files, strict=True):
        original = await console.get(f"/api/v1/files/{each['file_id']}/original")
        assert original.body == data
        assert (
            original.headers["Content-Type"]
            == {"JPEG": "image/jpeg", "PNG": "image/png", "TIFF": "image/tiff"}[each["format"]]
        )
    assert (await console.get(f"/api/v1/uploads/{body['data']['upload_id']}")).json["data"] == body["data"]


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("document.pdf", b"%PDF-1.7 " + bytes(100), "INVALID_FORMAT"),
        ("picture.jpg", b"GIF89a" + bytes(100), "INVALID_FORMAT"),
        ("picture.webp", picture("WEBP"), "INVALID_FORMAT"),
        ("empty.jpg", b"", "INVALID_FORMAT"),
        ("large.tif", picture("TIFF", 200, 200), "FILE_TOO_LARGE"),
        ("small.png", picture("PNG", 63, 64), "INVALID_DIMENSIONS"),
        ("wide.png", picture("PNG", 301, 64), "INVALID_DIMENSIONS"),
        ("cut.jpg", picture()[:-200], "CORRUPTED_FILE"),
        ("cut.png", picture("PNG")[:-200], "CORRUPTED_FILE"),
    ],
)
async def test_a_file_that_is_no_picture_refuses_its_upload_with_its_code(
    console: RunningConsole, name: str, data: bytes, code: str
) -> None:
    """C-S2-003, C-S2-004, C-S2-005, C-S2-006, C-S2-007, C-S2-009, C-S2-010."""
    response = await upload(console, ("good.jpg", picture()), (name, data), ("bad.txt", b"text"))
    assert (response.status, response.code, response.json["error"]["code"]) == (400, code, code)
    errors = response.json["errors"]
    assert [(each["filename"], each["code"]) for each in errors] == [(name, code), ("bad.txt", "INVALID_FORMAT")]
    assert all(each["error"] for each in errors)
    assert response.json["message"].endswith("; 1 other file is not accepted either")
    assert "JPEG, PNG and TIFF" in errors[1]["error"]
    assert "WebP are" not in errors[1]["error"]
    async with console.database.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM uploads WHERE completed_at IS NOT NULL") == 0
    page = await console.get(response.json["error"]["documentation_url"], key=None)
    assert (page.status, code in page.body.decode()) == (200, True)


async def test_more_files_than_allowed_no_file_and_no_form_are_refused(console: RunningConsole) -> None:
    """C-S2-008, C-S2-011."""
    many = await upload(console, *[(f"{number}.jpg", picture()) for number in range(4)])
    assert (many.status, many.code) == (400, "TOO_MANY_FILES")
    assert "console.max_files" in many.json["message"]
    for response in (
        await console.post(UPLOAD, data=form([("a.jpg", picture())], part="pictures")),
        await console.post(UPLOAD, json={"files": []}),
        await console.post(UPLOAD, data=picture(), headers={"Content-Type": "image/jpeg"}),
        await console.post(UPLOAD, data=b"--x--\r\n", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    ):
        assert (response.status, response.code) == (400, "VALIDATION_ERROR")
        assert "curl -F files=@a.jpg" in response.json["details"]
    cut = await console.post(
        UPLOAD, data=b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nabc', headers=dict(MULTIPART)
    )
    assert (cut.status, "cut off" in cut.json["message"]) == (400, True)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


async def test_an_upload_that_stays_away_ends_in_time_and_leaves_nothing(console: RunningConsole) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield (
            b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
            + picture()
            + b"\r\n--x\r\n"
        )
        await asyncio.sleep(10)

    response = await console.post(UPLOAD, data=slow(), headers=MULTIPART)
    assert (response.status, response.code) == (408, "UPLOAD_TIMEOUT")
    assert await count(console, "uploads WHERE completed_at IS NOT NULL") == 0


async def test_a_slow_upload_that_had_its_turn_makes_room_for_another_client(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that send a byte now and then would have all places for as long as an upload may last."""
    monkeypatch.setattr("console.parts._TURN_S", 1.0)
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'

    async def slow() -> AsyncIterator[bytes]:
        for piece in (head, *[b"."] * 200):
            yield piece
            await asyncio.sleep(0.1)

    async def faster() -> AsyncIterator[bytes]:
        yield head + picture()
        await ended.wait()
        yield b"\r\n--x--\r\n"

    ended = asyncio.Event()
    async with running_console(tmp_path, database, settings=ConsoleSettings(max_uploads=2)) as console:
        keys = [await console.other_client(name) for name in ("phone", "tablet")]
        first = asyncio.create_task(console.post(UPLOAD, data=slow(), headers=MULTIPART, key=keys[0]))
        second = asyncio.create_task(console.post(UPLOAD, data=faster(), headers=MULTIPART, key=keys[1]))
        await asyncio.sleep(0.3)
        assert (await upload(console, ("a.jpg", picture()))).code == "OVERLOADED"
        await asyncio.sleep(1.0)
        assert (await upload(console, ("a.jpg", picture()))).status == 200
        response = await first
        assert (response.status, response.code) == (503, "OVERLOADED")
        assert "because it was the slowest one" in response.json["message"]
        assert "faster connection" in response.json["details"]
        ended.set()
        assert (await second).status == 200


async def test_an_upload_whose_key_is_revoked_meanwhile_is_refused(console: RunningConsole) -> None:
    sending = Sending(console, more=True)
    await sending.begin()
    await ApiKeys(console.database).revoke("desktop")
    await console.keys.refresh()
    refused = await sending.end()
    assert (refused.status, refused.code) == (401, "UNAUTHORIZED")
    assert await count(console, "uploads WHERE completed_at IS NOT NULL") == 0


async def test_uploads_and_files_of_another_client_are_unknown(console: RunningConsole) -> None:
    data = (await upload(console, ("a.jpg", picture()))).json["data"]
    other = await console.other_client()
    file = data["uploaded_files"][0]["file_id"]
    for path, code in (
        (f"/api/v1/uploads/{data['upload_id']}", "UPLOAD_NOT_FOUND"),
        (f"/api/v1/files/{file}/original", "FILE_NOT_FOUND"),
        ("/api/v1/uploads/upl_0000", "UPLOAD_NOT_FOUND"),
        ("/api/v1/files/..%2F..%2Fetc%2Fpasswd/original", "NOT_FOUND"),
        ("/api/v1/files/" + "x" * 3_000 + "/original", "FILE_NOT_FOUND"),
        ("/api/v1/files/%00/original", "FILE_NOT_FOUND"),
    ):
        response = await console.get(path, key=other)
        assert (response.status, response.code) == (404, code), path
    assert (await console.request("DELETE", f"/api/v1/uploads/{data['upload_id']}", key=other)).status == 404
    assert (await console.get(f"/api/v1/files/{file}/original")).status == 200


async def test_uploads_that_no_job_uses_are_limited_and_can_be_deleted(console: RunningConsole) -> None:
    ids = [(await upload(console, ("a.jpg", picture()))).json["data"]["upload_id"] for _ in range(5)]
    refused = await upload(console, ("a.jpg", picture()))
    assert (refused.status, refused.code) == (409, "TOO_MANY_UPLOADS")
    assert (await console.request("DELETE", f"/api/v1/uploads/{ids[0]}")).status == 204
    assert (await console.get(f"/api/v1/uploads/{ids[0]}")).code == "UPLOAD_NOT_FOUND"
    assert (await upload(console, ("a.jpg", picture()))).status == 200


async def test_uploads_whose_first_file_is_refused_use_no_room(console: RunningConsole) -> None:
    for _ in range(LIMITS.max_open_uploads):
        assert (await upload(console, ("a.jpg", b"no picture"), ("b.jpg", picture()))).code == "INVALID_FORMAT"
    assert (await console.post(UPLOAD, data=form([("a.jpg", picture())], part="other"))).status == 400
    assert await count(console, "uploads") == 0
    assert (await upload(console, ("a.jpg", picture()), ("b.jpg", b"no picture"))).code == "INVALID_FORMAT"
    assert await count(console, "uploads") == 1


async def test_a_range_of_a_file_can_be_asked_for(console: RunningConsole) -> None:
    data = picture()
    file = (await upload(console, ("a.jpg", data))).json["data"]["uploaded_files"][0]["file_id"]
    response = await console.get(f"/api/v1/files/{file}/original", headers={"Range": "bytes=10-19"})
    assert (response.status, response.body) == (206, data[10:20])


async def test_equal_content_is_stored_once_and_each_file_has_its_row(console: RunningConsole, tmp_path: Path) -> None:
    """C-S2-012, C-S2-013, C-S2-091, C-S2-105."""
    before = await accepted_files(console)
    for _ in range(2):
        assert (await upload(console, ("../../a.jpg", picture()), ("a.jpg", picture()))).status == 200
    assert (await count(console, "uploads"), await count(console, "uploaded_files")) == (2, 4)
    stored = [path for path in tmp_path.rglob("*.jpg") if path.is_file()]
    assert [path.parent.parent for path in stored] == [tmp_path / "frames"]
    assert (tmp_path / "frames").stat().st_mode & 0o007 == 0
    assert await accepted_files(console) - before == 4


async def accepted_files(console: RunningConsole) -> float:
    lines = (await console.get("/api/v1/metrics", key=None)).body.decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("uploaded_files_total ")]
    return float(value)


async def test_a_few_files_of_many_uploads_are_stored_at_once_and_the_others_wait(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, most, go_on = 0, 0, asyncio.Event()

    async with running_console(tmp_path, database) as console:
        put = console.store.put

        async def slow_put(*arguments: Any, **names: Any) -> str:
            nonlocal waiting, most
            waiting += 1
            most = max(most, waiting)
            if waiting == 8:
                go_on.set()
            await go_on.wait()
            waiting -= 1
            return await put(*arguments, **names)

        monkeypatch.setattr(console.store, "put", slow_put)
        files = [("a.png", picture("PNG", 64, 64 + number)) for number in range(12)]
        async with asyncio.timeout(20):
            responses = await asyncio.gather(*(upload(console, file) for file in files))
    assert [each.status for each in responses] == [200] * 12
    assert most == 8
