"""Keeps blobs behind a loader service, which takes and returns single files by POST and cannot list them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

from aiohttp import FormData

from detectors.errors import ModelStoreError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import Download, OnTransfer
from detectors.store.web import Web, transfer_of_key

DEFAULT_URL = "http://loader:8080"


class LoaderBlobs:
    """Keeps files of folder ``<prefix>/name/version``; see :class:`detectors.store.blobs.Blobs`.

    ``POST load_path`` with JSON ``{"filename", "folder"}`` returns a file's bytes, or 404. ``POST upload_path`` takes
    a file as a form with the fields ``folder`` and ``data``. There is no authentication.
    """

    def __init__(self, settings: ModelStoreSettings) -> None:
        self._settings = settings
        self._base = (settings.endpoint_url or DEFAULT_URL).rstrip("/")
        self._web = Web(self._base, settings)

    @property
    def where(self) -> str:
        """The service's address and its folder."""
        return f"{self._base}/{self._settings.prefix.strip('/')}".rstrip("/")

    async def keys(self) -> Sequence[str]:
        """Raise ModelStoreError: a loader service cannot list its files."""
        raise ModelStoreError(
            f"the loader service at {self._base} cannot list its models; ask for one by name and version"
        )

    def read(self, key: str) -> AbstractAsyncContextManager[Download]:
        """Read the file with this folder and name from the service."""
        folder, name = self._split(key)
        path = _path(self._settings.load_path, name)
        return self._web.download("POST", path, json={"filename": name, "folder": folder})

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Upload the file; a service may show a half-sent file, which its checksum reveals."""
        folder, name = self._split(key)
        path = _path(self._settings.upload_path, name)
        await self._web.upload(
            path, file, lambda data: {"data": _form(folder, name, data)}, transfer_of_key(key, on_transfer)
        )

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Upload the bytes; the service cannot refuse an existing file."""
        folder, name = self._split(key)
        await self._web.post(_path(self._settings.upload_path, name), data=_form(folder, name, data))
        return True

    async def commit_changes(self, message: str) -> None:
        """Do nothing: the service has no commits."""

    async def close(self) -> None:
        """Close all connections."""
        await self._web.close()

    def _split(self, key: str) -> tuple[str, str]:
        folder, _, name = key.rpartition("/")
        return f"{self._settings.prefix.strip('/')}/{folder}".lstrip("/"), name


def _path(template: str, name: str) -> str:
    return template.replace("{filename}", quote(name, safe=""))


def _form(folder: str, name: str, data: object) -> FormData:
    # Not quoted, as servers expect it; a safe name has no characters that need quoting.
    form = FormData(quote_fields=False)
    form.add_field("folder", folder)
    form.add_field("data", data, filename=name, content_type="application/octet-stream")
    return form
