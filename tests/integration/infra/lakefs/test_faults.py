"""Tests the LakeFS client while the double fails, hangs, loses responses, or is another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.errors import RefusedError, TransientError
from infra.lakefs.errors import (
    LakeFsAddressError,
    LakeFsNotFoundError,
    LakeFsObjectGoneError,
    LakeFsProtectedError,
    LakeFsRefusedError,
    LakeFsRequestError,
    LakeFsUnavailableError,
)
from infra.lakefs.repository import LakeFsRepository
from infra.lakefs.requests import LakeFsRequests
from tests.integration.infra.lakefs.test_repository import access_of
from tests.servers.lakefs import LakeFsServer

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LakeFsServer]:
    with LakeFsServer(tmp_path / "lakefs") as server:
        yield server


@pytest.fixture
async def repository(server: LakeFsServer) -> AsyncIterator[LakeFsRepository]:
    client = LakeFsRepository(access_of(server, timeout_s=0.5))
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (500, "internal error", LakeFsUnavailableError),
        (503, "slow down", LakeFsUnavailableError),
        (429, "too many requests", LakeFsUnavailableError),
        (409, "conflict", LakeFsUnavailableError),
        (412, "precondition failed", LakeFsUnavailableError),
        (401, "error authenticating request", LakeFsRefusedError),
        (403, "insufficient permissions", LakeFsRefusedError),
        (403, "cannot write to protected branch", LakeFsProtectedError),
        (404, "repository not found", LakeFsNotFoundError),
        (410, "resource is gone", LakeFsObjectGoneError),
        (400, "bad request", LakeFsRequestError),
        (302, "moved", LakeFsAddressError),
    ],
)
async def test_status_decides_the_error(
    server: LakeFsServer, repository: LakeFsRepository, status: int, message: str, kind: type[Exception]
) -> None:
    server.fail = [("POST", status, message)]
    with pytest.raises(kind, match=f"HTTP {status} {message}") as caught:
        await repository.objects.upload("main", "x", b"one")
    assert type(caught.value) is kind
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "message"), [(500, "predicate failed"), (409, "conflict"), (429, "slow down"), (503, "busy")]
)
async def test_commit_is_tried_again_after_a_transient_response(
    server: LakeFsServer, repository: LakeFsRepository, status: int, message: str
) -> None:
    await repository.objects.upload("main", "x", b"one")
    server.fail = [("/commits", status, message)] * 3
    made = await repository.commit("main", "first", "batch-1")
    assert made is not None
    assert server.repositories["standgale"].messages == ["first"]


async def test_commit_whose_response_was_lost_is_found_again(
    server: LakeFsServer, repository: LakeFsRepository
) -> None:
    await repository.objects.upload("main", "x", b"one")
    server.lose_responses = 1
    made = await repository.commit("main", "first", "batch-1")
    found = server.repositories["standgale"]
    assert made is not None
    assert (made.id, found.messages) == (found.head.id, ["first"])


async def test_commit_without_changes_is_never_asked_for(server: LakeFsServer, repository: LakeFsRepository) -> None:
    await repository.commit("main", "nothing", "batch-1")
    assert not any("POST" in request for request in server.requests)
    assert server.repositories["standgale"].empty_commits == 0


async def test_server_that_hangs_raises_unavailable_within_the_time_limit(
    server: LakeFsServer, repository: LakeFsRepository
) -> None:
    server.hang_s = 5.0
    async with asyncio.timeout(3):
        for work in (
            repository.check(),
            repository.objects.read("main", "x", 10),
            repository.objects.upload("main", "x", b"one"),
            repository.refs.has_changes("main"),
        ):
            with pytest.raises(LakeFsUnavailableError, match=r"0\.5 s|in time|Timeout"):
                await work


async def test_address_with_a_path_is_the_web_page_and_no_success(server: LakeFsServer) -> None:
    client = LakeFsRepository(access_of(server, endpoint_url=f"{server.url}/ui"))
    for work in (
        client.check(),
        client.objects.find("main", "x"),
        client.objects.upload("main", "x", b"one"),
        client.refs.create_branch("b", "main"),
        client.refs.has_changes("main"),
    ):
        with pytest.raises(LakeFsAddressError, match="endpoint_url"):
            await work
    await client.close()


async def test_server_that_is_away_raises_a_transient_error(server: LakeFsServer) -> None:
    client = LakeFsRepository(access_of(server, endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(TransientError, match="is it up and reachable"):
        await client.check()
    await client.close()


@pytest.mark.parametrize("change", [{"secret_key": SecretStr("hush-wrong")}, {"repository": "elsewhere"}])
async def test_wrong_setting_is_named_and_may_be_corrected_later(
    server: LakeFsServer, change: dict[str, object]
) -> None:
    client = LakeFsRepository(access_of(server, **change))
    with pytest.raises(RefusedError, match=f"the setting {next(iter(change))}") as caught:
        await client.check()
    assert "hush" not in str(caught.value)
    await client.close()


async def test_linked_object_is_not_checked_and_may_be_gone(server: LakeFsServer, repository: LakeFsRepository) -> None:
    link = {"checksum": "ab" * 32, "size_bytes": 3, "media_type": "image/jpeg"}
    await repository.objects.link("main", "x", address="s3://frames/x", **link)  # type: ignore[arg-type]
    found = await repository.objects.find("main", "x")
    assert found is not None
    assert not await repository.objects.can_read("main", "x")
    with pytest.raises(LakeFsObjectGoneError):
        await repository.objects.read("main", "x", 10)
    inside = f"{server.repositories['standgale'].namespace}/data/x"
    with pytest.raises(LakeFsRequestError):
        await repository.objects.link("main", "y", address=inside, **link)  # type: ignore[arg-type]


async def test_page_of_more_than_a_thousand_is_refused_by_the_server(
    server: LakeFsServer, repository: LakeFsRepository
) -> None:
    requests = LakeFsRequests(access_of(server))
    with pytest.raises(LakeFsRequestError, match="at most 1000"):
        await requests.json("GET", "/refs/main/objects/ls", "list", {"amount": "1001"})
    await requests.close()
    for number in range(1_005):
        server.put("standgale", f"many/{number:04}", b"")
    assert len([each async for each in repository.objects.listed("main", "many/")]) == 1_005


@pytest.mark.parametrize("offset", ["", "b", None])
async def test_list_whose_offset_comes_again_is_ended_by_an_error(
    repository: LakeFsRepository, monkeypatch: pytest.MonkeyPatch, offset: str | None
) -> None:
    page = {"results": [{"path": "a"}], "pagination": {"has_more": True, "next_offset": offset}}

    async def same_page(*_: object) -> dict[str, object]:
        return page

    monkeypatch.setattr(LakeFsRequests, "json", same_page)
    with pytest.raises(LakeFsUnavailableError, match="does not go on"):
        _ = [each async for each in repository.objects.listed("main")]
