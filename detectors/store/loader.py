"""Blobs behind a loader service: files come and go by POST, one by one; it cannot say which there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

from aiohttp import FormData

from detectors.errors import ModelStoreError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Download, OnTransfer
from detectors.store.web import Web, key_progress

DEFAULT_URL = "http://loader:8080"


class LoaderBlobs:
    """Files of folder ``<prefix>/name/version``; the contract is on :class:`detectors.store.blobs.Blobs`.

    ``POST load_path`` with JSON ``{"filename", "folder"}`` answers a file's bytes, or 404. ``POST upload_path`` takes
    it back as a form with the fields ``folder`` and ``data``. There is no authentication.
    """

    def __init__(self, settings: ModelStoreSettings) -> None:
        self._settings = settings
        self._base = (settings.endpoint_url or DEFAULT_URL).rstrip("/")
        self._web = Web(self._base, settings)

    @property
    def where(self) -> str:
        """The service and its folder."""
        return f"{self._base}/{self._settings.prefix.strip('/')}".rstrip("/")

    async def keys(self) -> Sequence[str]:
        """A loader service has no way to ask."""
        raise ModelStoreError(
            f"the loader service at {self._base} cannot say which models it has; ask for one by name and version"
        )

    def read(self, key: str) -> AbstractAsyncContextManager[Download]:
        """What the service has under this folder and file name."""
        folder, name = self._split(key)
        path = _path(self._settings.load_path, name)
        return self._web.download("POST", path, json={"filename": name, "folder": folder})

    async def write(self, key: str, file: Path, progress: OnTransfer) -> None:
        """Whether a half-sent file is visible is up to the service; its checksum tells."""
        folder, name = self._split(key)
        path = _path(self._settings.upload_path, name)
        await self._web.upload(
            path, file, lambda data: {"data": _form(folder, name, data)}, key_progress(key, progress)
        )

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """There is no way to put only what is new."""
        folder, name = self._split(key)
        await self._web.post(_path(self._settings.upload_path, name), data=_form(folder, name, data))
        return True

    async def commit_changes(self, message: str) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Close all connections."""
        await self._web.close()

    def _split(self, key: str) -> tuple[str, str]:
        folder, _, name = key.rpartition("/")
        return f"{self._settings.prefix.strip('/')}/{folder}".lstrip("/"), name


def _path(template: str, name: str) -> str:
    return template.replace("{filename}", quote(name, safe=""))


def _form(folder: str, name: str, data: object) -> FormData:
    # Plain, as servers expect it; a checked name holds nothing that would have to be quoted.
    form = FormData(quote_fields=False)
    form.add_field("folder", folder)
    form.add_field("data", data, filename=name, content_type="application/octet-stream")
    return form
