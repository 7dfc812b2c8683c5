"""Pictures in S3 (a real server) and in LakeFS are replayed; odd keys, wrong keys, and servers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiobotocore.session
import pytest
from aiohttp import web

from infra.deploy.s3 import S3Server
from infra.errors import SettingsError
from ingest.replay.errors import SourceError
from ingest.replay.settings import ReplayLakeFsSettings
from ingest.replay.sources.lakefs import LakeFsLister
from schemas.archive_paths import archive_path
from tests.harnesses.edge_process import small_jpeg
from tests.integration.ingest.replay.runs import Runs, prepared
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer
from tests.servers.threads import AppServer

pytestmark = pytest.mark.integration

MOMENT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
ODD = ("a b.jpg", "a+b%2F.jpg", "ü/ä#?&=.jpg", "z/\u65e5\u672c.jpg")


def s3_settings(server: S3Server, **changes: object) -> dict[str, object]:
    own = {"access_key": server.access_key, "secret_key": server.secret_key, "timeout_s": 2.0}
    return {"endpoint_url": server.endpoint_url, **own, **changes}


async def put(server: S3Server, objects: dict[str, bytes]) -> None:
    session = aiobotocore.session.get_session()
    keys = {"aws_access_key_id": server.access_key, "aws_secret_access_key": server.secret_key}
    async with session.create_client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1", **keys) as client:
        for key, data in objects.items():
            await client.put_object(Bucket=server.bucket, Key=key, Body=data)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3" / "buckets", bucket="archive") as server:
        yield server


async def test_replay_of_a_prefix_reads_all_keys_once(tmp_path: Path, s3: S3Server) -> None:
    objects = {f"may/{number:03d}.jpg": small_jpeg(number) for number in range(20)}
    objects |= {f"may/{key}": small_jpeg(100 + number) for number, key in enumerate(ODD)}
    objects |= {"may/000.jpg.json": b'{"captured_at": "2026-05-01T12:30:00Z", "altitude_m": 80}'}
    objects |= {"may/bad.jpg": b"none", "may/x.tar": b"", "may/note.txt": b"", "june/1.jpg": small_jpeg(999)}
    await put(s3, objects)
    runs = await prepared(tmp_path, replay_s3=s3_settings(s3), replay={"batch_frames": 4})
    result = await runs.whole("s3://archive/may/")
    assert (result.accepted, result.refused_by_code) == (24, {"INVALID_FORMAT": 1, "NESTED_ARCHIVE": 1})
    events = {event.original_filename: event for event in await runs.frames()}
    assert len(events) == 24
    assert (events["000.jpg"].captured_at, events["000.jpg"].camera.altitude_m) == (MOMENT, 80.0)


async def test_replay_continues_when_the_server_comes_back(tmp_path: Path, s3: S3Server) -> None:
    await put(s3, {f"{number:03d}.jpg": small_jpeg(number) for number in range(30)})
    runs = await prepared(tmp_path, replay_s3=s3_settings(s3), replay={"rate": 40, "batch_frames": 4})
    running = asyncio.create_task(runs.whole("s3://archive"))
    await asyncio.sleep(0.4)
    await asyncio.to_thread(s3.kill)
    for _ in range(100):
        await asyncio.sleep(0.05)
        if runs.progress.waits:
            break
    assert "is it up and reachable" in next(iter(runs.progress.waits.values()))
    await asyncio.to_thread(s3.start)
    assert (await running).accepted == 30
    assert len({event.frame_id for event in await runs.frames()}) == len(await runs.frames()) == 30


async def test_replay_with_wrong_credentials_names_the_settings(tmp_path: Path, s3: S3Server) -> None:
    runs = await prepared(tmp_path, replay_s3=s3_settings(s3, secret_key="wrong"))
    with pytest.raises(SourceError, match="STANDGALE_REPLAY_S3__SECRET_KEY") as caught:
        await runs.run("s3://archive/may")
    assert "wrong" not in str(caught.value).replace("wrong_", "")
    runs = await prepared(tmp_path, replay_s3=s3_settings(s3))
    with pytest.raises(SourceError, match="name of the bucket"):
        await runs.run("s3://missing/may")


@pytest.fixture
def lakefs(tmp_path: Path) -> Iterator[LakeFsServer]:
    with LakeFsServer(tmp_path / "lakefs") as server:
        yield server


def lakefs_settings(url: str, **changes: object) -> dict[str, object]:
    return {"endpoint_url": url, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "timeout_s": 2.0, **changes}


def add(server: LakeFsServer, objects: dict[str, bytes]) -> None:
    server.page = 2
    for key, data in objects.items():
        server.put("standgale", key, data)


async def lakefs_runs(tmp_path: Path, url: str) -> Runs:
    return await prepared(tmp_path, replay_lakefs=lakefs_settings(url))


async def test_replay_of_a_ref_takes_the_times_of_the_archive(tmp_path: Path, lakefs: LakeFsServer) -> None:
    path = archive_path("drone-7", MOMENT, "ab" * 32, "image/jpeg")
    objects = {path: small_jpeg(0), "images/ü x.jpg": small_jpeg(1), "images/y.jpg": small_jpeg(2), "o.jpg": b"x"}
    add(lakefs, objects)
    runs = await lakefs_runs(tmp_path, lakefs.url)
    result = await runs.whole("lakefs://standgale/main/images/")
    assert (result.accepted, result.refused) == (3, 0)
    found = {event.original_filename: event.captured_at for event in await runs.frames()}
    assert found[path.rpartition("/")[2]] == MOMENT


async def test_replay_of_a_missing_ref_or_with_a_wrong_key_is_refused(tmp_path: Path, lakefs: LakeFsServer) -> None:
    runs = await lakefs_runs(tmp_path, lakefs.url)
    with pytest.raises(SourceError, match="correct repository and ref"):
        await runs.run("lakefs://standgale/missing/x")
    runs = await prepared(tmp_path, replay_lakefs=lakefs_settings(lakefs.url, secret_key="other"))
    with pytest.raises(SourceError, match="STANDGALE_REPLAY_LAKEFS__SECRET_KEY"):
        await runs.run("lakefs://standgale/main/x")
    runs = await prepared(tmp_path)
    with pytest.raises(SettingsError, match="all three are needed"):
        await runs.run("lakefs://standgale/main/x")


class Redirecting(AppServer):
    """Responds to everything with a redirect to ``target``, and keeps what it was sent."""

    def __init__(self, target: str) -> None:
        app = web.Application()
        self.requests: list[web.Request] = []

        async def respond(request: web.Request) -> web.Response:
            self.requests.append(request)
            return web.Response(status=307, headers={"Location": target})

        app.router.add_route("*", "/{path:.*}", respond)
        super().__init__(app)


async def test_replay_follows_no_redirect_with_its_key(tmp_path: Path) -> None:
    with Redirecting("http://127.0.0.1:1/") as other, Redirecting(f"{other.url}/api") as first:
        runs = await lakefs_runs(tmp_path, first.url)
        with pytest.raises(SourceError, match="redirects are not followed"):
            await runs.run("lakefs://standgale/main/x")
        lister = LakeFsLister("r", "main", "", ReplayLakeFsSettings.model_validate(lakefs_settings(first.url)), 5.0)
        with pytest.raises(SourceError, match="redirects are not followed"):
            await lister.read("x", 100)
        await lister.close()
        assert len(first.requests) >= 2
        assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        '{"results": 1}',
        '{"results": [], "pagination": {"has_more": true, "next_offset": ""}}',
        '{"results": [{}], "pagination": {}}',
    ],
)
async def test_list_of_a_server_that_is_no_lakefs_ends(tmp_path: Path, body: str) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", respond)
    with AppServer(app) as server:
        runs = await lakefs_runs(tmp_path, server.url)
        with pytest.raises(SourceError, match=r"LakeFS|does not go on"):
            await runs.run("lakefs://standgale/main/x")
