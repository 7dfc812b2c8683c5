"""Refuses a folder for results before anything is detected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from infra.errors import SettingsError
from infra.failure.settings import RetrySettings
from standgale.inference.storage import JobStorage

NO_S3 = cast(Any, None)


async def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    storage = JobStorage(NO_S3, tmp_path, RetrySettings())
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(SettingsError, match=r"OUTPUT_PATH: .*: cannot be written"):
            await storage.require_writable(folder)
    await storage.require_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []
