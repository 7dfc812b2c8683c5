"""Who may follow the stream, with a key, a token of the stream, a shared token or nothing, and what of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID, uuid4

import pytest
from starlette.datastructures import Headers

from infra.auth.scopes import DeviceScope, ScopeError
from infra.auth.verifier import VerifiedToken
from infra.encryption.box import SecretBox
from sinks.settings import SseSettings
from sinks.sse.access.access import ForbiddenError, NotFoundError, StreamAccess, Subscriber, UnauthorizedError
from sinks.sse.access.stream_tokens import StreamTokens
from sinks.sse.filters import parse_query

JOB, RUN, OTHER = uuid4(), uuid4(), uuid4()
BOX = SecretBox([bytes(32)])


class Keys:
    """Knows the keys ``sgk_all`` and ``sgk_some``."""

    def __init__(self) -> None:
        self.holders = {
            "sgk_all": VerifiedToken("desk", "all"),
            "sgk_some": VerifiedToken("guest", "some", DeviceScope.of(["drone-*"])),
        }

    def verify(self, token: str) -> VerifiedToken | None:
        return self.holders.get(token)

    def holder_of(self, token_id: str) -> VerifiedToken | None:
        return self.holders.get(f"sgk_{token_id}")


class Owners:
    """Has one job and two runs of one medium, all of the client ``desk``."""

    async def find(
        self, client_id: str, job_names: Collection[str], ids: Collection[UUID], media: Collection[str]
    ) -> Collection[tuple[UUID, str]]:
        rows = [(JOB, "job_abcd"), (RUN, "film"), (OTHER, "film")] if client_id == "desk" else []
        return [(id_, name) for id_, name in rows if name in {*job_names, *media} or id_ in ids]

    async def media_of(self, ids: Collection[UUID]) -> Mapping[UUID, tuple[str, str]]:
        return {each: ("desk", "film") for each in ids if each in (RUN, OTHER)}


def access(**settings: object) -> StreamAccess:
    found = SseSettings.model_validate(settings)
    return StreamAccess(found, Keys(), Owners(), StreamTokens(BOX, found.token_lifetime_s))


def show(**headers: str) -> Headers:
    return Headers({name.replace("_", "-"): value for name, value in headers.items()})


def test_subscriber_of_an_open_stream_needs_nothing_and_a_key_counts() -> None:
    assert access().subscriber(show()) == Subscriber()
    assert access().subscriber(show(x_api_token="stg_1_2")) == Subscriber()
    assert access().subscriber(show(x_api_key="sgk_all")).client_id == "desk"
    with pytest.raises(UnauthorizedError, match="unknown, revoked or expired"):
        access().subscriber(show(authorization="Bearer sgk_wrong"))


def test_subscriber_with_access_by_keys_needs_a_key_or_a_shared_token() -> None:
    strict = access(access="keys", tokens=("shared",))
    for headers in (show(), show(x_api_token="stg_1_2"), show(authorization="Basic shared"), show(x_api_key="naïve")):
        with pytest.raises(UnauthorizedError, match="a key or token is required"):
            strict.subscriber(headers)
    assert strict.subscriber(show(x_api_token="shared")) == Subscriber()
    assert strict.subscriber(show(authorization="bearer sgk_some")).scope == DeviceScope.of(["drone-*"])


def test_subscriber_takes_no_key_from_the_address() -> None:
    for text in ("sgk_all", "shared"):
        with pytest.raises(UnauthorizedError, match="written into logs"):
            access(access="keys", tokens=("shared",)).subscriber(show(), text)


def test_token_is_of_its_key_and_its_devices() -> None:
    strict = access(access="keys")
    assert strict.tokens is not None
    text, _ = strict.tokens.make("some", ["drone-1", "mast-1"])
    found = strict.subscriber(show(), text)
    assert found.client_id == "guest"
    assert found.scope is not None
    assert [found.scope.holds(each) for each in ("drone-1", "drone-2", "mast-1")] == [True, False, False]
    assert strict.is_valid(found)


def test_token_ends_with_its_time_its_key_and_its_scope() -> None:
    now = 1_000.0
    keys, tokens = Keys(), StreamTokens(BOX, 300.0, clock=lambda: now)
    strict = StreamAccess(SseSettings(access="keys"), keys, Owners(), tokens)
    text, token = tokens.make("some", None)
    found = strict.subscriber(show(), text)
    keys.holders["sgk_some"] = VerifiedToken("guest", "some", DeviceScope.of(["drone-1"]))
    assert not strict.is_valid(found)
    assert strict.is_valid(strict.subscriber(show(), text))
    del keys.holders["sgk_some"]
    assert not strict.is_valid(found)
    with pytest.raises(UnauthorizedError, match="not valid any more"):
        strict.subscriber(show(), text)
    now = float(token.until)
    with pytest.raises(UnauthorizedError, match=r"sse\.token_lifetime_s"):
        strict.subscriber(show(), text)


@pytest.mark.parametrize("text", ["sgs_", "sgs_x", "sgs_é", "sgs_" + "A" * 200, "sgs_" + "A" * 9_000])
def test_token_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UnauthorizedError):
        access().subscriber(show(), text)


def test_token_of_another_key_of_encryption_is_refused() -> None:
    text, _ = StreamTokens(SecretBox([bytes([1]) * 32]), 300.0).make("all", None)
    with pytest.raises(UnauthorizedError, match=r"other encryption\.keys"):
        access().subscriber(show(), text)


async def test_filter_of_a_client_has_its_own_jobs_and_media_only() -> None:
    desk, guest = Subscriber("desk", "all"), Subscriber("guest", "some", DeviceScope.of(["drone-*"]))
    found = await access().filter_of(desk, parse_query([("job", "job_abcd"), ("media", "film")]))
    assert found.jobs == {JOB, RUN, OTHER}
    assert (await access().filter_of(desk, parse_query([("job", str(RUN))]))).jobs == {RUN}
    for asked in (("job", "job_abcd"), ("job", str(JOB)), ("media", "film")):
        with pytest.raises(NotFoundError, match=asked[1]):
            await access().filter_of(guest, parse_query([asked]))
    for asked in (("job", "job_efgh"), ("media", "other"), ("job", str(uuid4()))):
        with pytest.raises(NotFoundError, match="another client's"):
            await access().filter_of(desk, parse_query([asked]))


async def test_filter_of_a_client_without_key_takes_no_names_of_jobs() -> None:
    for asked in (("job", "job_abcd"), ("media", "film")):
        with pytest.raises(UnauthorizedError, match="belong to clients"):
            await access().filter_of(Subscriber(), parse_query([asked]))
    assert (await access().filter_of(Subscriber(), parse_query([("job", str(JOB))]))).jobs == {JOB}


async def test_filter_of_a_device_outside_the_scope_is_refused() -> None:
    guest = Subscriber("guest", "some", DeviceScope.of(["drone-*"]))
    with pytest.raises(ForbiddenError, match="mast-1"):
        await access().filter_of(guest, parse_query([("device", "drone-1"), ("device", "mast-1")]))
    found = await access().filter_of(guest, parse_query([("device", "drone-1")]))
    assert found.scope == guest.scope


@pytest.mark.parametrize("pattern", ["", "*", "a b", "drone-**", "-x", "x" * 256])
def test_scope_of_wrong_patterns_is_refused(pattern: str) -> None:
    with pytest.raises(ScopeError):
        DeviceScope.of([pattern])
    with pytest.raises(ScopeError, match="at most 100"):
        DeviceScope.of([f"drone-{number}" for number in range(101)])
