"""Makes a harness for every kind of model store, behind a gate where there is a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Blobs
from detectors.store.open import open_blobs, open_model_store
from detectors.store.versions import VersionStore
from infra.deploy.s3 import S3Server
from standgale.testing.gate import Gate
from standgale.testing.model_store import NetworkHarness
from tests.harnesses.real_lakefs import create_repository
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer
from tests.servers.loader_service import LoaderServer

KINDS = ("folder", "s3", "http", "lakefs")


class SettingsHarness(NetworkHarness):
    """Opens the store of the settings, behind a gate where there is a network."""

    def __init__(
        self,
        settings: ModelStoreSettings,
        folder: Path,
        *,
        gate: Gate | None = None,
        take_away: Callable[[], None],
        bring_back: Callable[[], None],
    ) -> None:
        super().__init__()
        self.settings = settings
        self.folder = folder
        self.gate = gate
        self.lists_versions = settings.kind != "http"
        # A loader service has no response for it, and the S3 server of the tests does not support conditions.
        self.refuses_to_replace = settings.kind not in ("http", "s3")
        self._take_away, self._bring_back = take_away, bring_back

    def open_blobs(self) -> Blobs:
        return open_blobs(self.settings, self.folder)

    def take_away(self) -> None:
        self._take_away()

    def bring_back(self) -> None:
        self._bring_back()

    def store_with_timeout(self, timeout_s: float) -> VersionStore:
        """Open a store that ends a transfer after ``timeout_s`` without a byte."""
        return self.keep(open_model_store(self.settings.model_copy(update={"timeout_s": timeout_s}), self.folder))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of another process that uses this store."""
        fields = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in self.settings
        }
        given = {f"STANDGALE_MODELS__{name.upper()}": str(value) for name, value in fields.items() if value is not None}
        return {**os.environ, **given, "STANDGALE_DATA_DIR": str(self.folder / "data")}


@contextmanager
def model_store_harness(kind: str, folder: Path) -> Iterator[SettingsHarness]:
    """Open a harness for a store of ``kind``: one of KINDS, or lakefs-real.

    lakefs-real needs the variables STANDGALE_TEST_LAKEFS_URL, _ACCESS_KEY and _SECRET_KEY of a server on this machine.
    """
    with ExitStack() as servers:
        if kind == "folder":
            yield _folder_harness(folder)
            return
        port, fields = _server(kind, folder, servers)
        gate = servers.enter_context(Gate(port))
        settings = ModelStoreSettings.model_validate({"endpoint_url": gate.url, "timeout_s": 5.0, **fields})
        yield SettingsHarness(settings, folder, gate=gate, take_away=gate.shut, bring_back=gate.reopen)


def _folder_harness(folder: Path) -> SettingsHarness:
    root, away = folder / "the models", folder / "away"
    settings = ModelStoreSettings(folder=root)
    return SettingsHarness(settings, folder, take_away=lambda: _move(root, away), bring_back=lambda: _move(away, root))


def _move(source: Path, target: Path) -> None:
    source.rename(target)


def _server(kind: str, folder: Path, servers: ExitStack) -> tuple[int, dict[str, object]]:
    """Start a server; return its port, and its settings without the address."""
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
    """Create a repository in a real LakeFS on this machine; return its port and settings."""
    url = urlsplit(os.environ["STANDGALE_TEST_LAKEFS_URL"])
    repository = create_repository()
    assert url.port is not None
    key, secret = os.environ["STANDGALE_TEST_LAKEFS_ACCESS_KEY"], os.environ["STANDGALE_TEST_LAKEFS_SECRET_KEY"]
    return url.port, {"kind": "lakefs", "repository": repository, "access_key": key, "secret_key": secret}


def kinds(*but: str) -> list[Any]:
    """Return pytest parameters for all kinds that are possible here, except ``but``."""
    import pytest

    here = [kind for kind in KINDS if kind not in but]
    if "STANDGALE_TEST_LAKEFS_URL" in os.environ:
        here.append("lakefs-real")
    return [kind if kind == "folder" else pytest.param(kind, marks=pytest.mark.integration) for kind in here]
