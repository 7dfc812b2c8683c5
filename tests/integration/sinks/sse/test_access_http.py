"""Keys, tokens of pages, and pictures of the live stream over real HTTP; each route says who may ask for it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from uuid import UUID

import aiohttp
import orjson
import pytest

from infra.auth.scopes import DeviceScope
from infra.auth.verifier import VerifiedToken
from infra.encryption.box import SecretBox
from infra.errors import DatabaseUnavailableError
from infra.storage.frames.folder import FolderFrameStore
from sinks.sse import STREAM_PATH, sse_routes
from sinks.sse.access.access import TOKENS_PATH, StreamAccess
from sinks.sse.access.stream_tokens import StreamTokens
from sinks.sse.pictures.addresses import IMAGES_PATH
from standgale.testing.waiting import until
from tests.harnesses.sse_server import Page, Stream, listening, serving, started
from tests.servers.stream import numbered

pytestmark = pytest.mark.integration

KEY = {"X-API-Key": "sgk_guest_secret"}


class Keys:
    """Knows one key, of a client that may see drones; while it is not ``read``, it knows nothing yet."""

    def __init__(self) -> None:
        self.read = True
        self.holder: VerifiedToken | None = VerifiedToken("guest", "guest", DeviceScope.of(["drone-*"]))

    def verify(self, token: str) -> VerifiedToken | None:
        if not self.read:
            raise DatabaseUnavailableError("the client keys could not be read from the database yet; try again")
        return self.holder if token == KEY["X-API-Key"] else None

    async def look_up(self, token: str) -> None:
        """Find nothing new."""

    def holder_of(self, token_id: str) -> VerifiedToken | None:
        return self.holder if token_id == "guest" else None


def url(stream: Stream, path: str) -> str:
    return stream.url.replace(STREAM_PATH, path)


async def ask(stream: Stream, *, body: bytes = b"", **headers: str) -> tuple[int, dict[str, object]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with stream.http.post(url(stream, TOKENS_PATH), data=body, headers=sent) as response:
        return response.status, orjson.loads(await response.read())


async def test_a_page_follows_with_a_token_in_the_address_that_no_log_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    page = Page()
    async with serving(tmp_path, Keys(), access="keys") as stream:
        async with stream.http.get(stream.url) as refused:
            assert refused.status == 401
            assert refused.headers["www-authenticate"] == "Bearer"
        status, body = await ask(stream, body=b'{"devices": ["drone-1", "drone-2"]}', **KEY)
        assert status == 201
        assert body["devices"] == ["drone-1", "drone-2"]
        token = str(body["token"])
        assert body["stream_url"] == f"{STREAM_PATH}?token={token}"
        async with listening(stream, page, 2, ("token", token)):
            await stream.publish(*(numbered(number, device=f"drone-{number}") for number in range(4)))
            await stream.publish(numbered(4, device="mast-1"))
        async with stream.http.get(f"{stream.url}?token={token}&device=mast-1") as refused:
            assert refused.status == 403
        async with stream.http.get(f"{stream.url}?token={token}x") as refused:
            assert refused.status == 401
            assert token not in await refused.text()
    assert sorted(page.numbers) == [1, 2]
    logged = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name != "aiohttp"
    )
    assert token not in logged


async def test_a_stream_ends_when_its_key_is_revoked(tmp_path: Path) -> None:
    keys, page = Keys(), Page()
    async with serving(tmp_path, keys, access="keys", heartbeat_s=0.1) as stream:
        async with stream.http.get(stream.url, headers=KEY) as response:
            assert response.status == 200
            keys.holder = None
            text = await response.text()
        assert "your key or its devices have changed" in text
        with pytest.raises(AssertionError):
            await page.listen(stream.http, stream.url, enough=1)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 201, ""),
        (b"{}", 201, ""),
        (b'{"devices": ["*"]}', 400, "drone-*"),
        (b'{"devices": []}', 400, "devices"),
        (b'{"devices": "drone-1"}', 400, "devices"),
        (b'{"device": ["drone-1"]}', 400, "device"),
        (b"[1]", 400, "the body"),
        (b"{", 400, "JSON"),
        (b" " * 70_000, 400, "65536"),
        (b'{"devices": ["mast-1"]}', 403, "mast-1"),
    ],
)
async def test_a_token_needs_a_key_and_a_body_that_is_one(
    tmp_path: Path, body: bytes, status: int, reason: str
) -> None:
    async with serving(tmp_path, Keys()) as stream:
        found, answer = await ask(stream, body=body, **KEY)
        assert found == status
        assert reason in str(answer.get("message", ""))


async def test_a_token_is_refused_without_a_key_and_later_while_keys_are_unknown(tmp_path: Path) -> None:
    keys = Keys()
    async with serving(tmp_path, keys) as stream:
        for headers in ({}, {"X-API-Key": "sgk_x"}, {"X-API-Token": "stg_a_b"}):
            assert (await ask(stream, **headers))[0] == 401
        _, body = await ask(stream, **KEY)
        # A token makes no other token.
        assert (await ask(stream, Authorization=f"Bearer {body['token']}"))[0] == 401
        keys.read = False
        assert (await ask(stream, **KEY))[0] == 503
        async with stream.http.get(stream.url, headers=KEY) as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) > 0


async def test_the_picture_of_an_event_comes_from_its_address(tmp_path: Path) -> None:
    picture = b"\xff\xd8\xff" + b"picture" * 100_000
    digest = hashlib.sha256(picture).hexdigest()
    store = FolderFrameStore(tmp_path / "frames")
    uri = await store.put(picture, sha256=digest, media_type="image/jpeg")
    made = numbered(1, device="drone-1")
    image = made.image.model_copy(update={"uri": uri, "sha256": digest, "size_bytes": len(picture)})
    page = Page()
    async with serving(tmp_path, store=store) as stream, aiohttp.ClientSession() as http:
        async with listening(stream, page, 1):
            await stream.publish(made.model_copy(update={"image": image}))
        address = page.events[0][1].image.uri
        assert str(tmp_path) not in address
        assert "file:" not in address
        async with http.get(url(stream, address)) as response:
            assert response.status == 200
            assert response.headers["content-type"] == "image/jpeg"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert await response.read() == picture
        async with http.get(url(stream, address).replace("signature=", "signature=x")) as response:
            assert response.status == 403
        await store.delete(uri)
        async with http.get(url(stream, address)) as response:
            assert response.status == 404
            assert str(tmp_path) not in await response.text()
    await store.close()


async def test_a_reset_comes_over_http_and_the_next_connection_resumes(tmp_path: Path) -> None:
    page = Page(last_id="of another server")
    async with serving(tmp_path) as stream:
        await started(stream.hub)
        async with listening(stream, page, 1):
            await stream.publish(numbered(1, device="a"))
        assert [name for name, _ in page.others] == ["reset"]
        await stream.publish(numbered(2, device="a"))
        await page.listen(stream.http, stream.url, enough=2)
    assert page.numbers == [1, 2]


async def test_sse_routes_refuse_a_stranger_each_by_its_rule(tmp_path: Path) -> None:
    rules = {("GET", STREAM_PATH): 401, ("POST", TOKENS_PATH): 401, ("GET", f"{IMAGES_PATH}/{{name}}"): 403}
    store = FolderFrameStore(tmp_path / "frames")
    async with serving(tmp_path, Keys(), store=store, access="keys") as stream:
        access = StreamAccess(stream.hub.settings, Keys(), None, StreamTokens(SecretBox([bytes(32)]), 1.0))
        routes = {
            (method, route.path)
            for route in sse_routes(stream.hub, access, store)
            for method in route.methods or ()
            if method != "HEAD"
        }
        assert routes == set(rules)
        for (method, path), status in rules.items():
            address = url(stream, path.replace("{name}", "0" * 64 + ".jpg"))
            async with stream.http.request(method, address) as response:
                assert response.status == status
                assert "error_code" in await response.json()
    await store.close()


class Media:
    """Owners whose media get new runs; ``away``: the database does not answer."""

    def __init__(self) -> None:
        self.runs: dict[UUID, tuple[str, str]] = {}
        self.away = False

    async def find(
        self, client_id: str, job_names: Collection[str], ids: Collection[UUID], media: Collection[str]
    ) -> Collection[tuple[UUID, str]]:
        return [(run, name) for run, (client, name) in self.runs.items() if client == client_id and name in media]

    async def media_of(self, ids: Collection[UUID]) -> Mapping[UUID, tuple[str, str]]:
        if self.away:
            raise DatabaseUnavailableError("away")
        return {each: self.runs[each] for each in ids if each in self.runs}


async def test_runs_of_a_medium_that_begin_later_are_followed_and_none_is_missed(tmp_path: Path) -> None:
    media, page = Media(), Page()
    first, again, other, of_desk = (UUID(int=number) for number in range(1, 5))
    media.runs[first] = ("guest", "film")
    async with serving(tmp_path, Keys(), media, access="keys", heartbeat_s=0.1) as stream:

        async def send(number: int, run: UUID | None) -> None:
            await stream.publish(numbered(number, device="jobs-01").model_copy(update={"job_id": run}))

        _, body = await ask(stream, **KEY)
        asked = (("token", str(body["token"])), ("media", "film"))
        async with listening(stream, page, 4, *asked):
            await send(0, first)
            media.runs |= {again: ("guest", "film"), other: ("guest", "else"), of_desk: ("desk", "film")}
            media.away = True
            for number, run in enumerate((again, other, of_desk, None, again), start=1):
                await send(number, run)
            await until(lambda: any("database" in each for each in page.comments), "the client does not wait")
            assert page.numbers == [0]
            media.away = False
            await send(6, first)
        assert page.numbers == [0, 1, 5, 6]
        # Who connects again with an older place gets the later runs, too.
        resumed = Page(last_id=page.events[0][0])
        async with listening(stream, resumed, 3, *asked):
            pass
    assert resumed.numbers == [1, 5, 6]
