"""Reads the AsyncAPI document with the parser of the authors of AsyncAPI (I13)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.documents import ASYNCAPI_FILE, documents
from schemas.topics import load_topics
from tests.paths import ROOT

pytestmark = pytest.mark.integration

FOLDER = ROOT / "tests" / "asyncapi"
# The parser knows version 3.1, which only adds robots; readers of 3.0 are more common.
IGNORED = "asyncapi-latest-version"


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None or not (FOLDER / "node_modules").is_dir():
        reason = "the parser is not installed; install nodejs and npm, and run `make test`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _findings(node: str, text: str, folder: Path) -> list[dict[str, Any] | None]:
    document = folder / "asyncapi.yaml"
    document.write_text(text)
    done = subprocess.run(
        [node, "check.js", str(document)], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    found: list[dict[str, Any] | None] = json.loads(done.stdout)
    return found


def test_parser_finds_nothing_in_the_document(node: str, tmp_path: Path) -> None:
    found = _findings(node, documents(load_topics())[ASYNCAPI_FILE], tmp_path)
    assert [one for one in found if one is None or one["code"] != IGNORED] == []


@pytest.mark.parametrize("change", [("action: ", "act: "), ("$ref: '#/channels/", "$ref: '#/canals/"), ("3.0.0", "9")])
def test_parser_finds_what_is_wrong(node: str, tmp_path: Path, change: tuple[str, str]) -> None:
    text = documents(load_topics())[ASYNCAPI_FILE]
    assert change[0] in text
    found = _findings(node, text.replace(*change), tmp_path)
    assert [one for one in found if one is None or one["severity"] == 0]
