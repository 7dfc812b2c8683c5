"""`standgale model push | pull | list` as people use them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from standgale.testing.model_store import make_model
from tests.servers.loader_service import LoaderServer

pytestmark = pytest.mark.integration


def run(folder: Path, *arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "standgale", "model", *arguments],
        env={**os.environ, "STANDGALE_DATA_DIR": str(folder / "data"), "COLUMNS": "200", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def test_model_is_pushed_listed_and_pulled(tmp_path: Path) -> None:
    card = make_model(tmp_path / "mine")
    empty = run(tmp_path, "list")
    assert empty.stdout == ""
    assert "standgale model push" in empty.stderr
    assert run(tmp_path, "push", str(card)).stdout == "finder 1.0.0 is in the model store\n"
    assert run(tmp_path, "list").stdout == "finder 1.0.0\n"
    assert orjson.loads(run(tmp_path, "list", "--json").stdout) == [{"name": "finder", "version": "1.0.0"}]
    fetched = tmp_path / "data" / "model-cache" / "finder" / "1.0.0" / "model.yaml"
    assert run(tmp_path, "pull", "finder", "1.0.0").stdout == f"{fetched}\n"
    assert fetched.read_bytes() == card.read_bytes()
    elsewhere = orjson.loads(run(tmp_path, "pull", "finder", "1.0.0", "--into", "here", "--json").stdout)
    assert (tmp_path / elsewhere["card"]).read_bytes() == card.read_bytes()


def test_bad_input_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    run(tmp_path, "push", str(make_model(tmp_path / "mine")))
    for arguments, words in (
        (("push", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("push", str(make_model(tmp_path / "other"))), "give the new one another version"),
        (("pull", "finder", "2.0.0"), "there are 1.0.0"),
        (("pull", "../finder", "1.0.0"), "is no name of a model"),
        (("pull", "", "1.0.0"), "is no model"),
    ):
        assert words in run(tmp_path, *arguments, status=2).stderr


def test_wrong_or_missing_model_store_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    http = {"STANDGALE_MODELS__KIND": "http"}
    away = run(tmp_path, "pull", "a", "1", status=2, **http, STANDGALE_MODELS__ENDPOINT_URL="http://127.0.0.1:9")
    assert "MODEL_STORE_UNAVAILABLE" in away.stderr
    secret = run(tmp_path, "list", status=2, **http, STANDGALE_MODELS__ENDPOINT_URL="http://me:hush@localhost")
    assert "has a user or a password" in secret.stderr
    assert "hush" not in secret.stderr
    with LoaderServer(tmp_path / "loader") as loader:
        listed = run(tmp_path, "list", status=2, **http, STANDGALE_MODELS__ENDPOINT_URL=loader.url)
        assert "cannot list its models" in listed.stderr
