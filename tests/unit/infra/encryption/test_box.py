"""Secrets come back with the right key and purpose alone; the key file is private, and made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.encryption.box import SecretBox, SecretUnreadableError, open_box
from infra.encryption.settings import EncryptionSettings
from infra.errors import SettingsError

ONE, TWO = bytes(32), bytes([1]) * 32


def test_a_text_comes_back_with_any_of_the_keys() -> None:
    kept = SecretBox([ONE]).encrypt("whsec_abc", "webhook")
    assert b"whsec" not in kept
    assert SecretBox([TWO, ONE]).decrypt(kept, "webhook") == "whsec_abc"
    assert SecretBox([ONE]).encrypt("whsec_abc", "webhook") != kept


def test_another_key_another_purpose_and_changed_bytes_are_refused() -> None:
    kept = SecretBox([ONE]).encrypt("x", "webhook")
    with pytest.raises(SecretUnreadableError, match="STANDGALE_ENCRYPTION__KEYS"):
        SecretBox([TWO]).decrypt(kept, "webhook")
    with pytest.raises(SecretUnreadableError, match="'webhook', not for 'media'"):
        SecretBox([ONE]).decrypt(kept, "media")
    with pytest.raises(SecretUnreadableError):
        SecretBox([ONE]).decrypt(kept[:-1], "webhook")


def test_without_keys_a_private_file_is_made_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        boxes = list(threads.map(lambda _: open_box(EncryptionSettings(), tmp_path), range(8)))
    kept = boxes[0].encrypt("x", "webhook")
    assert {box.decrypt(kept, "webhook") for box in boxes} == {"x"}
    assert (tmp_path / "encryption.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["encryption.key"]


@pytest.mark.parametrize("text", ["", "short", "!" * 44, "a" * 60])
def test_an_error_about_a_key_has_nothing_of_the_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="openssl rand -base64 32") as caught:
        open_box(EncryptionSettings(keys=(SecretStr(text),)), tmp_path)
    assert not text or text not in str(caught.value)
