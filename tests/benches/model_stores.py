"""Every kind of model store for tests, each behind a gate where there is a network, and models to put into them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from pydantic import SecretStr

from detectors.settings import ModelStoreSettings
from detectors.store.blobs import OnTransfer, ignore_transfer
from detectors.store.open import open_blobs, open_model_store
from detectors.store.versions import VersionStore
from infra.deploy.s3 import S3Server
from schemas.event_base import ModelRef
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer
from tests.servers.loader_service import LoaderServer
from tests.servers.threads import Gate

KINDS = ("folder", "s3", "http", "lakefs")
MEGABYTE = 1_048_576


@dataclass
class World:
    """One kind of store under test, and the means to do to it what the world does."""

    settings: ModelStoreSettings
    folder: Path
    gate: Gate | None = None
    take_away: Callable[[], None] = lambda: None
    bring_back: Callable[[], None] = lambda: None
    stores: list[VersionStore] = field(default_factory=list)

    def store(self, progress: OnTransfer = ignore_transfer, **changes: object) -> VersionStore:
        """A store of its own, as another process would have; ``changes`` replaces settings."""
        self.stores.append(open_model_store(self.settings.model_copy(update=changes), self.folder, progress))
        return self.stores[-1]

    async def close(self) -> None:
        """Close all stores."""
        for store in self.stores:
            await store.close()

    async def alter(self, key: str, content: bytes) -> None:
        """Put ``content`` under ``key``, whatever the store would say to it."""
        blobs = open_blobs(self.settings, self.folder)
        try:
            await blobs.put(key, content, new=False)
        finally:
            await blobs.close()

    async def content(self, key: str) -> bytes:
        """What lies under ``key``."""
        blobs = open_blobs(self.settings, self.folder)
        try:
            async with blobs.read(key) as download:
                return b"".join([chunk async for chunk in download.chunks])
        finally:
            await blobs.close()

    @property
    def environment(self) -> dict[str, str]:
        """What tells another process of this store."""
        fields = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in self.settings
        }
        given = {f"STANDGALE_MODELS__{name.upper()}": str(value) for name, value in fields.items() if value is not None}
        return {**os.environ, **given, "STANDGALE_DATA_DIR": str(self.folder / "data")}


@contextmanager
def model_world(kind: str, folder: Path) -> Iterator[World]:
    """A world of ``kind``: one of KINDS, or lakefs-real, which needs STANDGALE_TEST_LAKEFS_URL, _ACCESS_KEY and
    _SECRET_KEY of a server on this machine."""
    with ExitStack() as servers:
        if kind == "folder":
            yield _folder_world(folder)
            return
        port, fields = _server(kind, folder, servers)
        gate = servers.enter_context(Gate(port))
        settings = ModelStoreSettings.model_validate({"endpoint_url": gate.url, "timeout_s": 5.0, **fields})
        yield World(settings, folder, gate, gate.shut, gate.reopen)


def _folder_world(folder: Path) -> World:
    root, away = folder / "the models", folder / "away"
    settings = ModelStoreSettings(folder=root)
    return World(settings, folder, None, lambda: _move(root, away), lambda: _move(away, root))


def _move(source: Path, target: Path) -> None:
    source.rename(target)


def _server(kind: str, folder: Path, servers: ExitStack) -> tuple[int, dict[str, object]]:
    """A running server's port, and the settings for it beside its address."""
    if kind == "s3":
        s3 = servers.enter_context(S3Server(folder / "buckets"))
        return s3.port, {
            "kind": "s3",
            "bucket": s3.bucket,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        }
    if kind == "http":
        return servers.enter_context(LoaderServer(folder / "loader")).port, {"kind": "http"}
    if kind == "lakefs":
        lakefs = servers.enter_context(LakeFsServer(folder / "lakefs"))
        return lakefs.port, {"kind": "lakefs", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return _real_lakefs()


def _real_lakefs() -> tuple[int, dict[str, object]]:
    """A new repository of a real LakeFS on this machine."""
    import lakefs_sdk

    url = urlsplit(os.environ["STANDGALE_TEST_LAKEFS_URL"])
    key, secret = os.environ["STANDGALE_TEST_LAKEFS_ACCESS_KEY"], os.environ["STANDGALE_TEST_LAKEFS_SECRET_KEY"]
    name = f"test-{uuid4().hex[:12]}"
    storage = os.environ.get("STANDGALE_TEST_LAKEFS_STORAGE", "local://")
    host = f"{url.scheme}://{url.netloc}/api/v1"
    client = lakefs_sdk.ApiClient(lakefs_sdk.Configuration(host=host, username=key, password=secret))
    creation = lakefs_sdk.RepositoryCreation(name=name, storage_namespace=storage + name, default_branch="main")
    lakefs_sdk.RepositoriesApi(client).create_repository(creation)
    assert url.port is not None
    return url.port, {"kind": "lakefs", "repository": name, "access_key": key, "secret_key": secret}


def kinds(*but: str) -> list[Any]:
    """Parameters for all worlds there are here except ``but``, as pytest takes them."""
    import pytest

    here = [kind for kind in KINDS if kind not in but]
    if "STANDGALE_TEST_LAKEFS_URL" in os.environ:
        here.append("lakefs-real")
    return [kind if kind == "folder" else pytest.param(kind, marks=pytest.mark.integration) for kind in here]


def make_model(
    folder: Path,
    *,
    name: str = "finder",
    version: str = "1.0.0",
    size: int = 1000,
    tokenizer: bool = False,
    external: bool = False,
    **changes: object,
) -> Path:
    """A card in ``folder``, beside an ONNX file with ``size`` bytes of weights; ``changes`` replaces fields of it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(np.frombuffer(os.urandom(size), np.uint8), "weights")
    files = {}
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["images"], ["out"])],
            "g",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 64, 64])],
            [weights],
        )
    )
    where = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0} if external else {}
    onnx.save_model(model, str(folder / "model.onnx"), **where)
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps({"version": uuid4().hex}))
        files["tokenizer.json"] = digest(folder / "tokenizer.json")
    if external:
        files["model.onnx.data"] = digest(folder / "model.onnx.data")
    fields: dict[str, object] = {
        "name": name,
        "version": version,
        "file": "model.onnx",
        "sha256": digest(folder / "model.onnx"),
        "files": files,
        "input": {"width": 64, "height": 64},
        "classes": [{"name": "thing"}],
        "licence": "Apache-2.0",
        **({"text": {"tokenizer": "tokenizer.json"}} if tokenizer else {}),
        **changes,
    }
    card = folder / "model.yaml"
    card.write_text("# Written by hand.\n" + yaml.safe_dump(fields))
    return card


def digest(path: Path) -> str:
    """The file's SHA-256."""
    return sha256(path.read_bytes()).hexdigest()


def ref(version: str = "1.0.0", name: str = "finder") -> ModelRef:
    """A model by name and version."""
    return ModelRef(name=name, version=version)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
