"""Tests the LakeFS client against the double, and against a real server where STANDGALE_TEST_LAKEFS_URL names one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.lakefs.access import LakeFsAccess
from infra.lakefs.commits import BATCH
from infra.lakefs.errors import (
    LakeFsNotFoundError,
    LakeFsObjectMissingError,
    LakeFsRefusedError,
    LakeFsRequestError,
    LakeFsTooLargeError,
)
from infra.lakefs.repository import LakeFsRepository
from tests.harnesses.real_lakefs import create_repository, real_lakefs_is_there
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer

pytestmark = pytest.mark.integration
SERVERS = ["double", *(["real"] if real_lakefs_is_there() else [])]


def access_of(server: LakeFsServer, **changes: object) -> LakeFsAccess:
    fields = {
        "endpoint_url": server.url,
        "access_key": SecretStr(ACCESS_KEY),
        "secret_key": SecretStr(SECRET_KEY),
        "repository": "standgale",
        "timeout_s": 5.0,
    }
    return LakeFsAccess(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(params=SERVERS)
async def repository(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LakeFsRepository]:
    if request.param == "real":
        keys = {
            name: SecretStr(os.environ[f"STANDGALE_TEST_LAKEFS_{name.upper()}"])
            for name in ("access_key", "secret_key")
        }
        url = os.environ["STANDGALE_TEST_LAKEFS_URL"].rstrip("/")
        client = LakeFsRepository(LakeFsAccess(url, repository=create_repository(), **keys))
        yield client
        await client.close()
        return
    with LakeFsServer(tmp_path / "lakefs") as server:
        server.page = 3
        client = LakeFsRepository(access_of(server))
        yield client
        await client.close()


async def test_repository_is_described(repository: LakeFsRepository) -> None:
    info = await repository.check()
    assert info.default_branch == "main"
    assert info.storage_namespace.endswith(info.name)


async def test_uploaded_object_is_read_listed_and_removed(repository: LakeFsRepository) -> None:
    objects = repository.objects
    assert await objects.upload("main", "a/ü b+%2F.jpg", b"one", media_type="image/jpeg", metadata={"frame": "7"})
    found = await objects.find("main", "a/ü b+%2F.jpg")
    assert found is not None
    assert (found.size_bytes, found.metadata) == (3, {"frame": "7"})
    assert await objects.read("main", "a/ü b+%2F.jpg", 3) == b"one"
    with pytest.raises(LakeFsTooLargeError, match="at most 2"):
        await objects.read("main", "a/ü b+%2F.jpg", 2)
    with pytest.raises(LakeFsObjectMissingError):
        await objects.read("main@", "a/ü b+%2F.jpg", 3)
    assert await objects.find("main@", "a/ü b+%2F.jpg") is None
    assert not await objects.upload("main", "a/ü b+%2F.jpg", b"two", only_new=True)
    for number in range(5):
        await objects.upload("main", f"b/{number}", b"x")
    assert [each.path async for each in objects.listed("main", "b/")] == [f"b/{number}" for number in range(5)]
    assert [each.path async for each in objects.listed("main", "b/", after="b/2")] == ["b/3", "b/4"]
    await objects.remove("main", ["b/0", "b/1", "missing"])
    assert [each.path async for each in objects.listed("main", "b/")] == ["b/2", "b/3", "b/4"]


async def test_commit_has_its_batch_and_is_made_once(repository: LakeFsRepository) -> None:
    await repository.objects.upload("main", "x", b"one")
    assert await repository.refs.has_changes("main")
    made = await repository.commit("main", "first", "batch-1", {"images": "1"})
    assert made is not None
    assert made.metadata[BATCH] == "batch-1"
    await repository.objects.upload("main", "y", b"two")
    later = await repository.commit("main", "second", "batch-2")
    again = await repository.commit("main", "first", "batch-1")
    assert again is not None
    assert again.id == made.id, "what was committed under that batch is found again"
    unknown = await repository.commit("main", "third", "batch-3")
    assert unknown == later, "else the newest one, which has everything"
    assert [each.message async for each in repository.refs.log("main", page=1)][:2] == ["second", "first"]


async def test_simultaneous_commits_lose_nothing(repository: LakeFsRepository) -> None:
    async def add(number: int) -> None:
        await repository.objects.upload("main", f"n/{number}", b"x")
        made = await repository.commit("main", f"number {number}", f"batch-{number}")
        assert made is not None
        assert await repository.objects.find(made.id, f"n/{number}") is not None

    await asyncio.gather(*(add(number) for number in range(6)))
    assert not await repository.refs.has_changes("main")


async def test_branches_and_tags_are_made_once_and_deleted(repository: LakeFsRepository) -> None:
    # C-S1-073
    refs = repository.refs
    await repository.objects.upload("main", "x", b"one")
    await repository.commit("main", "first", "batch-1")
    assert await refs.create_branch("experiment-yolo", "main")
    assert not await refs.create_branch("experiment-yolo", "main")
    assert await refs.create_tag("dataset-v1.0", "experiment-yolo")
    assert not await refs.create_tag("dataset-v1.0", "main")
    assert await refs.branch("experiment-yolo") == (await refs.branches("experiment-"))[0]
    assert (await refs.tag("dataset-v1.0")).commit_id == (await refs.branch("main")).commit_id
    await refs.delete_branch("experiment-yolo")
    await refs.delete_tag("dataset-v1.0")
    for missing in (refs.branch("experiment-yolo"), refs.tag("dataset-v1.0")):
        with pytest.raises(LakeFsNotFoundError):
            await missing
    with pytest.raises(LakeFsRefusedError, match="no such branch"):
        await repository.objects.upload("nowhere", "x", b"one")


async def test_requests_that_never_succeed_are_no_transient_errors(repository: LakeFsRepository) -> None:
    with pytest.raises(LakeFsRequestError):
        await repository.refs.create_branch("dataset-v1.0", "main")
    with pytest.raises(LakeFsRefusedError):
        await repository.refs.create_branch("experiment", "no-such-ref")
