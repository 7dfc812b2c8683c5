"""Finds the checkout, and real files for tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the checkout."""


def real_file(name: str) -> Path:
    """Return the real file ``name`` of the folder that STANDGALE_TEST_DATA names; skip the test where that is not set.

    Where it is set and the file is missing, the test fails.
    """
    folder = os.environ.get("STANDGALE_TEST_DATA")
    if not folder:
        pytest.skip("STANDGALE_TEST_DATA names no folder with real files")
    path = Path(folder, name)
    assert path.is_file(), f"STANDGALE_TEST_DATA={folder} has no {name}"
    return path
