"""I14: an address of an upload holds for one upload until it expires, on every gateway of the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from infra.storage.originals.errors import BadSignatureError
from infra.storage.originals.port import Upload
from infra.storage.originals.signing import signed_query, signing_key, verified_upload

KEY = bytes(range(32))
UPLOAD = Upload("drone-1", "ab" * 32, 1_000, "image/tiff")


def test_an_address_gives_the_upload_that_was_signed() -> None:
    query = signed_query(KEY, UPLOAD, 2_000)
    assert verified_upload(KEY, "drone-1", "ab" * 32, query, 1_999.9) == UPLOAD


def test_a_changed_or_expired_address_is_refused() -> None:
    query = signed_query(KEY, UPLOAD, 2_000)
    changed = [
        {**query, "size": "1001"},
        {**query, "size": "-1"},
        {**query, "size": "1" * 99},
        {**query, "type": "image/png"},
        {**query, "expires": "9999999999"},
        {**query, "expires": "٣"},
        {**query, "signature": ""},
        {**query, "signature": "\ud800"},
        {name: text for name, text in query.items() if name != "expires"},
        signed_query(bytes(32), UPLOAD, 2_000),
        signed_query(KEY, replace(UPLOAD, device_id="drone-2"), 2_000),
        {},
    ]
    for wrong in changed:
        with pytest.raises(BadSignatureError):
            verified_upload(KEY, "drone-1", "ab" * 32, wrong, 1_000.0)
    with pytest.raises(BadSignatureError):
        verified_upload(KEY, "drone-1", "cd" * 32, query, 1_000.0)
    with pytest.raises(BadSignatureError, match="expired"):
        verified_upload(KEY, "drone-1", "ab" * 32, query, 2_000.0)


def test_gateways_that_begin_at_once_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: signing_key(path), range(32)))
    assert keys == {path.read_bytes()}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_a_key_that_a_full_disk_cut_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"half")
    key = signing_key(path)
    assert len(key) == 32
    assert signing_key(path) == key
