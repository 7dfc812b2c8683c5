"""Checks of a folder before work begins: it must be a folder, writable, and on a disk with space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from infra.errors import SettingsError
from standgale.folders import require_writable


def test_full_disk_and_missing_permission_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    with pytest.raises(SettingsError, match=r"^--data-dir .*: only 5 MB are free on its disk, 100 MB are needed"):
        require_writable("--data-dir", tmp_path / "new")
    require_writable("--data-dir", tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root, every folder can be written to
    with pytest.raises(SettingsError, match=r"this user may not write to .*; change its permissions"):
        require_writable("--data-dir", tmp_path / "new")
