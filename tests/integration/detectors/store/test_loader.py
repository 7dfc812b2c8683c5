"""Checks the model store behind a loader service: its requests, and which responses are refused."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from detectors.errors import ModelLoadError, ModelStoreError
from detectors.settings import ModelStoreSettings
from detectors.store.open import open_model_store
from detectors.store.versions import VersionStore
from infra.errors import TransientError
from standgale.testing.factories import model_ref
from standgale.testing.model_store import make_model
from tests.servers.loader_service import LoaderServer

pytestmark = pytest.mark.integration


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[LoaderServer]:
    with LoaderServer(tmp_path / "loader") as server:
        yield server


def store_of(loader: LoaderServer, tmp_path: Path, **changes: object) -> VersionStore:
    fields = {"kind": "http", "endpoint_url": loader.url, "timeout_s": 5.0, **changes}
    return open_model_store(ModelStoreSettings.model_validate(fields), tmp_path)


async def test_loader_requests_have_the_form_the_service_expects(loader: LoaderServer, tmp_path: Path) -> None:
    store = store_of(loader, tmp_path)
    engine = tmp_path / "finder+cc 9.0.engine"
    engine.write_bytes(b"engine")
    await store.publish_artefact(model_ref(), engine)
    await store.close()
    folder = "models/finder/1.0.0"
    asked, sent = "/load/finder%2Bcc%209.0.engine", "/upload/finder%2Bcc%209.0.engine"
    assert [(method, path) for method, path, _ in loader.seen] == [
        ("POST", asked),
        ("POST", sent),
        ("POST", asked + ".sha256"),
        ("POST", sent + ".sha256"),
    ]
    assert loader.seen[0][2] == {"filename": engine.name, "folder": folder}
    assert loader.seen[1][2] == {"filename": engine.name, "folder": folder}
    assert (tmp_path / "loader" / folder / engine.name).read_bytes() == b"engine"


async def test_load_path_upload_path_and_prefix_settings_are_used(loader: LoaderServer, tmp_path: Path) -> None:
    # Without {filename} the name is in the body alone.
    store = store_of(loader, tmp_path, prefix="", load_path="/load/any", upload_path="/upload/any")
    await store.publish(make_model(tmp_path / "mine"))
    assert (tmp_path / "loader" / "finder" / "1.0.0" / "model.yaml").is_file()
    await store.fetch(model_ref(), tmp_path / "fetched")
    await store.close()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(loader: LoaderServer, tmp_path: Path, status: int) -> None:
    store = store_of(loader, tmp_path)
    loader.respond = lambda: web.Response(status=status, headers={"Location": f"{loader.url}/load/secrets"})
    for work in (
        store.fetch(model_ref(), tmp_path),
        store.publish_artefact(model_ref(), make_model(tmp_path / "m").parent / "model.onnx"),
    ):
        with pytest.raises(ModelStoreError, match="redirects are not followed"):
            await work
    assert len(loader.seen) == 2
    await store.close()


@pytest.mark.parametrize(
    ("status", "error"), [(500, TransientError), (503, TransientError), (429, TransientError), (400, ModelStoreError)]
)
async def test_error_status_decides_error_type_and_body_is_quoted_in_short(
    loader: LoaderServer, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    store = store_of(loader, tmp_path)
    loader.respond = lambda: web.Response(status=status, text="the disk\n  is full " + "x" * 100_000)
    with pytest.raises(error, match="the disk is full") as caught:
        await store.fetch(model_ref(), tmp_path)
    assert f"HTTP {status}" in str(caught.value)
    assert len(str(caught.value)) < 500
    await store.close()


async def test_compressed_response_is_not_unpacked(loader: LoaderServer, tmp_path: Path) -> None:
    store = store_of(loader, tmp_path)
    loader.respond = packed
    with pytest.raises(ModelLoadError, match=r"model card http://.*/model\.yaml"):
        await store.fetch(model_ref(), tmp_path)
    await store.close()


def packed() -> web.Response:
    """A card that is valid only after unpacking."""
    return web.Response(body=gzip.compress(b"name: finder\n"), headers={"Content-Encoding": "gzip"})
