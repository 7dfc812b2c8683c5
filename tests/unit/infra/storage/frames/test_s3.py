"""Puts of the S3 frame store against retention, step by step, with and without conditional requests."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiobotocore")

from botocore.exceptions import ClientError

from infra.errors import StoreUnavailableError
from infra.storage.frames.s3 import S3FrameStore
from infra.storage.s3_client import S3Connection
from infra.storage.settings import FrameSettings

DATA = b"a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()
DAY = timedelta(days=1)


class Server:
    """What an S3 server does with the few requests of the store; each waits for its turn in ``gate``."""

    def __init__(self, *, conditional: bool) -> None:
        self.conditional = conditional
        self.now = datetime(2026, 5, 1, tzinfo=UTC)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.requests: list[str] = []
        self.before: Callable[[str], Any] = lambda _: None

    async def put_object(self, *, Key: str, Body: bytes, IfNoneMatch: str | None = None, **more: str) -> None:  # noqa: N803
        await self._request(f"PUT {Key}")
        if IfNoneMatch and self.conditional and Key in self.objects:
            raise _refusal("PreconditionFailed", 412)
        if "ContentMD5" in more:
            assert b64decode(more["ContentMD5"]) == hashlib.md5(Body).digest()
            assert b64decode(more["ChecksumSHA256"]) == hashlib.sha256(Body).digest()
        self.objects[Key] = (Body, self.now)

    async def head_object(self, *, Key: str, **_: str) -> dict[str, Any]:  # noqa: N803
        await self._request(f"HEAD {Key}")
        if Key not in self.objects:
            raise _refusal("404", 404)
        headers = {"date": format_datetime(self.now, usegmt=True)}
        return {"LastModified": self.objects[Key][1], "ResponseMetadata": {"HTTPHeaders": headers}}

    async def list_objects_v2(self, *, Prefix: str, **_: str) -> dict[str, Any]:  # noqa: N803
        await self._request(f"LIST {Prefix}")
        found = [{"Key": key, "LastModified": at} for key, (_, at) in self.objects.items() if key.startswith(Prefix)]
        headers = {"date": format_datetime(self.now, usegmt=True)}
        return {"Contents": found, "ResponseMetadata": {"HTTPHeaders": headers}}

    async def delete_object(self, *, Key: str, **_: str) -> None:  # noqa: N803
        await self._request(f"DELETE {Key}")
        self.objects.pop(Key, None)

    async def _request(self, what: str) -> None:
        self.requests.append(what)
        result = self.before(what)
        if result is not None:
            await result


def _refusal(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Request")


@pytest.fixture(params=[True, False], ids=["conditional", "unconditional"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(conditional=request.param)

    async def client(_: S3Connection) -> Server:
        return server

    monkeypatch.setattr(S3Connection, "client", client)
    return server


@pytest.fixture
def store(server: Server) -> S3FrameStore:
    return S3FrameStore(FrameSettings(kind="s3"), Path("unused"))


async def put(store: S3FrameStore) -> str:
    return await store.put(DATA, sha256=SHA256, media_type="image/png")


def key_of(uri: str) -> str:
    return uri.removeprefix("s3://standgale/")


async def test_s3_put_again_renews_the_time(store: S3FrameStore, server: Server) -> None:
    uri = await put(store)
    server.now += DAY
    assert await put(store) == uri
    assert server.objects[key_of(uri)][1] == server.now
    assert await store.delete_older(uri, server.now - DAY / 2) is False
    server.now += DAY
    assert await store.delete_older(uri, server.now - DAY / 2) is True
    assert await store.delete_older(uri, server.now - DAY / 2) is False
    assert [key for key in server.objects if SHA256 in key] == []


async def test_a_repetition_soon_after_writes_no_further_version(store: S3FrameStore, server: Server) -> None:
    uri = await put(store)
    first = server.objects[key_of(uri)][1]
    server.now += timedelta(minutes=5)
    await put(store)
    if server.conditional:
        assert server.objects[key_of(uri)][1] == first


async def test_delete_older_never_removes_what_a_put_returned(store: S3FrameStore, server: Server) -> None:
    """Stop put and sweep before every pair of their requests and let the other go first there."""
    uri = await put(store)
    outcomes = set()
    for put_at, sweep_at in itertools.product(range(8), repeat=2):
        server.objects = {key: (body, server.now - 2 * DAY) for key, (body, _) in server.objects.items()}
        server.objects[key_of(uri)] = (DATA, server.now - 2 * DAY)
        for mark in [key for key in server.objects if "/.sweep/" in key]:
            del server.objects[mark]
        returned, swept = await _interleave(store, server, uri, put_at, sweep_at)
        outcomes.add((returned, swept))
        assert not returned or key_of(uri) in server.objects, (put_at, sweep_at)
    assert {(True, False), (True, True)} <= outcomes


async def _interleave(store: S3FrameStore, server: Server, uri: str, put_at: int, sweep_at: int) -> tuple[bool, bool]:
    """Run a put up to its request ``put_at``, then a sweep up to ``sweep_at``, then the put, then the sweep."""
    turns = {"put": asyncio.Event(), "sweep": asyncio.Event()}
    stops = {"put": put_at, "sweep": sweep_at}
    reached = {"put": asyncio.Event(), "sweep": asyncio.Event()}
    counts = {"put": 0, "sweep": 0}

    async def wait_for_turn(_: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        who = task.get_name()
        if counts[who] == stops[who]:
            reached[who].set()
            await turns[who].wait()
        counts[who] += 1

    server.before = wait_for_turn
    putting = asyncio.create_task(put(store), name="put")
    await asyncio.wait({putting, asyncio.create_task(reached["put"].wait())}, return_when=asyncio.FIRST_COMPLETED)
    sweeping = asyncio.create_task(store.delete_older(uri, server.now - DAY), name="sweep")
    await asyncio.wait({sweeping, asyncio.create_task(reached["sweep"].wait())}, return_when=asyncio.FIRST_COMPLETED)
    turns["put"].set()
    try:
        await putting
        returned = True
    except StoreUnavailableError as error:
        assert "retention" in str(error)
        returned = False
    turns["sweep"].set()
    swept = await sweeping
    server.before = lambda _: None
    for event in reached.values():
        event.set()
    return returned, swept


async def test_the_end_of_one_sweep_does_not_hide_another_one(store: S3FrameStore, server: Server) -> None:
    """Two kinds of retention may remove the same picture at once."""
    uri = await put(store)
    server.now += 2 * DAY
    goes_on = asyncio.Event()

    def stop_before_delete(what: str) -> Any:
        return goes_on.wait() if what == f"DELETE {key_of(uri)}" and sweeping is asyncio.current_task() else None

    server.before = stop_before_delete
    server.requests.clear()
    sweeping = asyncio.create_task(store.delete_older(uri, server.now - DAY))
    while not any(what.startswith("HEAD") for what in server.requests):  # noqa: ASYNC110 (the requests tell nobody)
        await asyncio.sleep(0)
    # Another device sends the picture, and the second sweep finds it to be new.
    server.objects[key_of(uri)] = (DATA, server.now)
    assert await store.delete_older(uri, server.now - DAY) is False
    server.objects[key_of(uri)] = (DATA, server.now - 2 * DAY)
    with pytest.raises(StoreUnavailableError, match="retention is removing"):
        await put(store)
    goes_on.set()
    assert await sweeping is True
    assert await put(store) == uri
    assert key_of(uri) in server.objects


async def test_mark_of_killed_sweep_expires(store: S3FrameStore, server: Server) -> None:
    uri = await put(store)

    def die(what: str) -> None:
        if what.startswith("DELETE frames/.sweep"):
            raise _refusal("InternalError", 500)

    server.now += 2 * DAY
    server.before = die
    with pytest.raises(StoreUnavailableError):
        await store.delete_older(uri, server.now - DAY)
    server.before = lambda _: None
    if not server.conditional:
        with pytest.raises(StoreUnavailableError, match="retention"):
            await put(store)
    server.now += timedelta(minutes=11)
    await put(store)
    assert key_of(uri) in server.objects


async def test_an_outage_while_images_are_looked_up_keeps_its_cause(store: S3FrameStore, server: Server) -> None:
    def refuse(_: str) -> None:
        raise _refusal("SlowDown", 503)

    server.before = refuse
    with pytest.raises(StoreUnavailableError, match="SlowDown") as caught:
        await store.find([SHA256, "0" * 64])
    assert isinstance(caught.value.__cause__, ClientError)


async def test_a_defect_while_images_are_looked_up_is_no_group_of_errors(store: S3FrameStore, server: Server) -> None:
    def fail(what: str) -> None:
        raise _refusal("SlowDown", 503) if SHA256 in what else KeyError("defect")

    server.before = fail
    with pytest.raises(KeyError, match="defect"):
        await store.find([SHA256, "0" * 64])
