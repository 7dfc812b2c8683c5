"""Checks the model store in LakeFS: commits, branches, tags, locks, and the errors of wrong settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.errors import ModelLoadError, ModelStoreError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.open import open_model_store
from standgale.testing.factories import model_ref
from standgale.testing.model_store import make_model
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer

pytestmark = pytest.mark.integration


@pytest.fixture
def lakefs(tmp_path: Path) -> Iterator[LakeFsServer]:
    with LakeFsServer(tmp_path / "lakefs") as server:
        yield server


def settings(lakefs: LakeFsServer, **changes: object) -> ModelStoreSettings:
    fields = {"kind": "lakefs", "endpoint_url": lakefs.url, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return ModelStoreSettings.model_validate({**fields, "timeout_s": 5.0, **changes})


async def test_publish_makes_one_commit_and_republish_none(lakefs: LakeFsServer, tmp_path: Path) -> None:
    store = open_model_store(settings(lakefs), tmp_path)
    card = make_model(tmp_path / "mine", tokenizer=True)
    for _ in range(2):
        await store.publish(card)
    repository = lakefs.repositories["standgale"]
    assert repository.messages == ["Model finder 1.0.0"]
    assert repository.empty_commits == 0
    assert sorted(repository.head.objects) == [
        f"models/finder/1.0.0/{name}" for name in ("model.onnx", "model.yaml", "tokenizer.json")
    ]
    await store.close()


async def test_tag_can_be_read_and_not_written(lakefs: LakeFsServer, tmp_path: Path) -> None:
    store = open_model_store(settings(lakefs), tmp_path)
    await store.publish(make_model(tmp_path / "one"))
    repository = lakefs.repositories["standgale"]
    repository.tags["blessed"] = repository.head.id
    await store.publish(make_model(tmp_path / "two", version="2.0.0"))
    await store.close()
    for wanted in ("blessed", repository.tags["blessed"]):
        tagged = open_model_store(settings(lakefs, ref=wanted), tmp_path)
        assert [each.version for each in await tagged.versions()] == ["1.0.0"]
        assert (await tagged.fetch(model_ref(), tmp_path / wanted)).is_file()
        with pytest.raises(ModelLoadError, match=r"no finder 2\.0\.0: there are 1\.0\.0"):
            await tagged.fetch(model_ref("2.0.0"), tmp_path / wanted)
        with pytest.raises(ModelStoreError, match="to publish, a branch"):
            await tagged.publish(make_model(tmp_path / "three", version="3.0.0"))
        await tagged.close()


@pytest.mark.parametrize(
    ("status", "message"),
    [(500, "branch is currently locked"), (500, "update branch: predicate failed"), (429, "slow down"), (503, "busy")],
)
async def test_commit_that_is_refused_for_a_moment_is_tried_again(
    lakefs: LakeFsServer, tmp_path: Path, status: int, message: str
) -> None:
    store = open_model_store(settings(lakefs), tmp_path)
    lakefs.fail = [("/commits", status, message)] * 3
    await store.publish(make_model(tmp_path / "mine"))
    assert lakefs.repositories["standgale"].messages == ["Model finder 1.0.0"]
    await store.close()


async def test_commit_that_keeps_failing_raises_transient_error(lakefs: LakeFsServer, tmp_path: Path) -> None:
    store = open_model_store(settings(lakefs), tmp_path)
    card = make_model(tmp_path / "mine")
    lakefs.fail = [("/commits", 500, "branch is currently locked")] * 8
    with pytest.raises(ModelStoreUnavailableError, match="currently locked"):
        await store.publish(card)
    await store.publish(card)
    assert lakefs.repositories["standgale"].messages == ["Model finder 1.0.0"]
    await store.close()


async def test_simultaneous_pushes_are_all_published(lakefs: LakeFsServer, tmp_path: Path) -> None:
    stores = [open_model_store(settings(lakefs), tmp_path) for _ in range(6)]
    cards = [make_model(tmp_path / str(number), version=f"{number}.0.0") for number in range(6)]
    await asyncio.gather(*(store.publish(card) for store, card in zip(stores, cards, strict=True)))
    assert len(await stores[0].versions()) == 6
    # Not that no commit was empty: another store may commit between one's look at the branch and its commit.
    assert not lakefs.repositories["standgale"].changes("main")
    for store in stores:
        await store.close()


@pytest.mark.parametrize("name", ["model.onnx", "model.yaml"])
@pytest.mark.parametrize("damage", ["lost", "damaged"])
async def test_bytes_that_the_server_lost_are_replaced_by_push(
    lakefs: LakeFsServer, tmp_path: Path, name: str, damage: str
) -> None:
    if (name, damage) == ("model.yaml", "damaged"):
        pytest.skip("a card with other content is refused, as one of another version is")
    store = open_model_store(settings(lakefs), tmp_path)
    card = make_model(tmp_path / "mine")
    await store.publish(card)
    file = lakefs.file_of(lakefs.repositories["standgale"].head.objects[f"models/finder/1.0.0/{name}"])
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with pytest.raises(ModelLoadError):
        await store.fetch(model_ref(), tmp_path / "before")
    await store.publish(card)
    assert (await store.fetch(model_ref(), tmp_path / "after")).is_file()
    assert not lakefs.repositories["standgale"].changes("main")
    await store.close()


async def test_address_with_a_path_is_named_as_wrong(lakefs: LakeFsServer, tmp_path: Path) -> None:
    store = open_model_store(settings(lakefs, endpoint_url=f"{lakefs.url}/ui"), tmp_path)
    for work in (store.versions(), store.publish(make_model(tmp_path / "mine")), store.fetch(model_ref(), tmp_path)):
        with pytest.raises(ModelStoreError, match="STANDGALE_MODELS__ENDPOINT_URL"):
            await work
    await store.close()


async def test_protected_branch_is_named_and_not_the_key(lakefs: LakeFsServer, tmp_path: Path) -> None:
    lakefs.repositories["standgale"].branches["main"].protected = True
    store = open_model_store(settings(lakefs), tmp_path)
    with pytest.raises(ModelStoreError, match="the branch is protected") as caught:
        await store.publish(make_model(tmp_path / "mine"))
    assert "KEY" not in str(caught.value)
    await store.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"secret_key": "hush-hush-wrong"}, "STANDGALE_MODELS__ACCESS_KEY"),
        ({"repository": "elsewhere"}, "STANDGALE_MODELS__REPOSITORY"),
        ({"ref": "no-such-branch"}, "STANDGALE_MODELS__REPOSITORY and __REF"),
    ],
)
async def test_a_wrong_setting_is_named_without_its_secret(
    lakefs: LakeFsServer, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    store = open_model_store(settings(lakefs, **change), tmp_path)
    for work in (store.versions(), store.publish(make_model(tmp_path / "mine")), store.fetch(model_ref(), tmp_path)):
        with pytest.raises(ModelLoadError, match=words) as caught:
            await work
        assert "hush" not in str(caught.value)
    await store.close()


async def test_endpoint_url_may_include_the_api_path(lakefs: LakeFsServer, tmp_path: Path) -> None:
    store = open_model_store(settings(lakefs, endpoint_url=f"{lakefs.url}/api/v1/"), tmp_path)
    assert list(await store.versions()) == []
    await store.close()
