"""Signs the addresses of uploads with a key in the store, so that every gateway of the store verifies them."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from infra.storage.originals.errors import BadSignatureError
from infra.storage.originals.port import Upload

_KEY_BYTES = 32
_MAX_NUMBER = 15


def signing_key(path: Path) -> bytes:
    """Return the key in the file ``path``, which is made at the first use; processes that make it at once get one."""
    with suppress(FileNotFoundError):
        key = path.read_bytes()
        if len(key) == _KEY_BYTES:
            return key
        # A disk that was full at that moment; no address was signed with it.
        path.unlink(missing_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            # Only one of several processes makes the name.
            os.link(new, path)
    finally:
        new.unlink()
    return path.read_bytes()


def signed_query(key: bytes, upload: Upload, expires_s: int) -> dict[str, str]:
    """Return the query of an address that is valid until ``expires_s`` (seconds since 1970)."""
    return {
        "size": str(upload.size_bytes),
        "type": upload.media_type,
        "expires": str(expires_s),
        "signature": _signature(key, upload, expires_s),
    }


def verified_upload(key: bytes, device_id: str, sha256: str, query: Mapping[str, str], now_s: float) -> Upload:
    """Return the upload that an address allows. Raises BadSignatureError."""
    size, expires = query.get("size", ""), query.get("expires", "")
    if not all(text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER for text in (size, expires)):
        raise BadSignatureError("the address of the upload is not complete; use it as it was given")
    upload = Upload(device_id, sha256, int(size), query.get("type", ""))
    expected = _signature(key, upload, int(expires))
    if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode("utf-8", "replace")):
        raise BadSignatureError("the address of the upload was not given by this gateway, or was changed")
    if now_s >= int(expires):
        raise BadSignatureError("the address of the upload has expired; ask for a new one, and the upload continues")
    return upload


def _signature(key: bytes, upload: Upload, expires_s: int) -> str:
    # No part has a line end, so no two uploads give the same text.
    parts = ("PUT", upload.device_id, upload.sha256, str(upload.size_bytes), upload.media_type, str(expires_s))
    return hmac.new(key, "\n".join(parts).encode(), "sha256").hexdigest()
