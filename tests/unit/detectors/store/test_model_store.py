"""Checks names, order and settings of model stores, missing libraries, and a card's further files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from detectors.card.card import read_card, verified_model_file
from detectors.errors import ModelLoadError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Download
from detectors.store.folder import FolderBlobs
from detectors.store.names import card_refs, key_of, ref_of, require_safe_file, version_order
from detectors.store.open import open_model_store
from detectors.store.versions import VersionStore
from infra.errors import SettingsError
from infra.secrets import secrets_of
from standgale.testing.factories import model_ref
from standgale.testing.model_store import files_below, make_model


def test_version_order_compares_numbers_as_numbers() -> None:
    ordered = ["0.9", "1.0.0", "1.2.0", "1.2.0-rc1", "1.9.0", "1.10.0", "2"]
    assert sorted(set(ordered), key=version_order) == ordered
    assert version_order("v2") < version_order("v10")


def test_card_refs_ignores_other_keys() -> None:
    keys = [
        "a/1/model.yaml",
        "a/1/model.onnx",
        "b/1/model.onnx",
        "a/model.yaml",
        "a/1/x/model.yaml",
        "a/1/model.yaml.sha256",
        ".unfinished/1/model.yaml",
        "a/../model.yaml",
        "/1/model.yaml",
        "",
    ]
    assert card_refs(keys) == [model_ref("1", "a")]


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.onnx.data", "finder+cc 9.0_sm_132.engine", "a", "encoder (1).onnx"]
)
def test_require_safe_file_accepts_plain_names(name: str) -> None:
    assert require_safe_file(name, "the card") == name
    assert key_of(model_ref(), name) == f"finder/1.0.0/{name}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "a\\b",
        "/a",
        ".a",
        "-a",
        "a\n",
        "a\0",
        "a;b",
        "a%2fb",
        'a".onnx',
        "ü.onnx",
        "a" * 201,
        "a.sha256",
    ],
)
def test_require_safe_file_refuses_other_names(name: str) -> None:
    with pytest.raises(ModelLoadError, match="the card names the file"):
        require_safe_file(name, "the card")


def test_ref_of_refuses_names_that_are_no_model() -> None:
    assert ref_of("finder", "1.0.0") == model_ref()
    for name, version in (("", "1"), ("a", ""), ("a" * 101, "1"), ("a/b", "1"), ("a", "..")):
        with pytest.raises(ModelLoadError):
            ref_of(name, version)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"access_key": "a"}, "STANDGALE_MODELS__SECRET_KEY"),
        ({"kind": "lakefs"}, "all three are needed"),
        ({"endpoint_url": "file:///etc"}, "no address of a server"),
        ({"endpoint_url": "gopher://host"}, "no address of a server"),
        ({"endpoint_url": "http://"}, "no address of a server"),
        ({"endpoint_url": "http://user:hush@host"}, "has a user or a password"),
        ({"endpoint_url": "http://host/?a=b"}, "it has a . or a #"),
        ({"load_path": "load/{filename}"}, "STANDGALE_MODELS__LOAD_PATH"),
        ({"upload_path": "/{filename}/{filename}"}, "STANDGALE_MODELS__UPLOAD_PATH"),
        ({"upload_path": "/{folder}"}, "STANDGALE_MODELS__UPLOAD_PATH"),
        ({"kind": "ftp"}, "kind"),
    ],
)
def test_model_store_settings_that_cannot_work_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        ModelStoreSettings.model_validate(fields)
    assert "hush" not in str(caught.value)


def test_model_store_keys_are_secrets() -> None:
    models = ModelStoreSettings(access_key=SecretStr("hush-key"), secret_key=SecretStr("hush-secret"))
    assert {"hush-key", "hush-secret"} <= secrets_of(models)
    assert "hush" not in repr(models)


@pytest.mark.parametrize(("kind", "library"), [("s3", "aiobotocore")])
def test_open_model_store_without_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, library: str
) -> None:
    for module in (f"detectors.store.{kind}", "infra.storage.s3_client"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    # A part that another test has loaded would be found without the whole.
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    fields = {"kind": kind, "endpoint_url": "http://localhost", "access_key": "a", "secret_key": "b"}
    with pytest.raises(SettingsError, match=f"install the extra {kind} of standgale: "):
        open_model_store(ModelStoreSettings.model_validate(fields), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelStoreUnavailableError, match="STANDGALE_MODELS__FOLDER"):
        open_model_store(ModelStoreSettings(folder=tmp_path / "file" / "models"), tmp_path)


async def test_folder_store_can_be_its_own_model_cache(tmp_path: Path) -> None:
    store = open_model_store(ModelStoreSettings(), tmp_path)
    await store.publish(make_model(tmp_path / "mine"))
    assert (
        await store.fetch(model_ref(), tmp_path / "models") == tmp_path / "models" / "finder" / "1.0.0" / "model.yaml"
    )
    assert list(await store.versions()) == [model_ref()]


async def test_old_leftovers_of_killed_writers_are_deleted(tmp_path: Path) -> None:
    store = open_model_store(ModelStoreSettings(), tmp_path)
    await store.publish(make_model(tmp_path / "mine"))
    unfinished = tmp_path / "models" / ".unfinished"
    old, young = unfinished / "old", unfinished / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    yesterday = time.time() - 86_400
    os.utime(old, (yesterday, yesterday))
    await store.publish(make_model(tmp_path / "next", version="2.0.0"))
    assert [path.name for path in unfinished.iterdir()] == ["young"]


class ShortBlobs(FolderBlobs):
    """A folder that promises a byte more than it gives, as a file does that is cut while it is read."""

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[Download]:
        async with super().read(key) as download:
            assert download.size is not None
            yield Download(download.size + (not key.endswith(".yaml")), download.chunks)


async def test_download_shorter_than_announced_raises_transient_error(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "models")
    await VersionStore(blobs, 10_000_000).publish(make_model(tmp_path / "mine"))
    with pytest.raises(ModelStoreUnavailableError, match="was cut off after"):
        await VersionStore(ShortBlobs(tmp_path / "models"), 10_000_000).fetch(model_ref(), tmp_path / "fetched")
    assert files_below(tmp_path / "fetched") == {}


def test_verified_model_file_checks_all_files_of_a_card(tmp_path: Path) -> None:
    path = make_model(tmp_path, external=True, tokenizer=True)
    assert verified_model_file(read_card(path), path) == tmp_path / "model.onnx"
    (tmp_path / "model.onnx.data").write_bytes(b"other weights")
    with pytest.raises(ModelLoadError, match=r"correct files\.model\.onnx\.data"):
        verified_model_file(read_card(path), path)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ModelLoadError, match=r"correct files\.model\.onnx\.data"):
        verified_model_file(read_card(path), path)


def test_card_files_must_not_list_the_onnx_file_again(tmp_path: Path) -> None:
    path = make_model(tmp_path, files={"model.onnx": "0" * 64})
    with pytest.raises(ModelLoadError, match="leave it out"):
        read_card(path)
