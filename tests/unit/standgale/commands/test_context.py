"""Tables of the command line stay readable on 80 columns; JSON is complete in every terminal."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from infra.database.settings import DatabaseSettings
from infra.process.terminal import prepare_streams
from standgale.commands.context import Context, print_json, table
from standgale.settings import Settings


def test_table_keeps_whole_columns_on_one_line_and_cuts_no_text() -> None:
    shown = table("id", "about", whole=["id"])
    shown.add_row("e758fab3-1fa7-5df2-83ca-b3ff2165d02d", "/a/path/without/any/space" * 5)
    written = io.StringIO()
    Console(file=written, width=80).print(shown)
    text = written.getvalue()
    assert "e758fab3-1fa7-5df2-83ca-b3ff2165d02d" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("environ", [{}, {"LANG": "C"}])
def test_json_has_every_character_in_every_terminal(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"image": "Zürich – ×.jpg", "at": datetime(2026, 5, 1, tzinfo=UTC)}
    for given in (value, {"image": "not text \udcff"}):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
        prepare_streams(environ)
        print_json(given)
        text = raw.getvalue().decode("ascii" if environ else "utf-8")
        assert json.loads(text)["image"] == given["image"]
        assert "at" not in given or "2026-05-01T00:00:00+00:00" in text


def test_new_embedded_database_is_named_before_it_is_created(tmp_path: Path) -> None:
    written = io.StringIO()
    here = Context(None, notes=Console(file=written, width=80))
    other = DatabaseSettings(url=SecretStr("postgresql://standgale@127.0.0.1/standgale"))
    here.note_new_database(Settings(data_dir=tmp_path, database=other))
    assert written.getvalue() == ""
    here.note_new_database(Settings(data_dir=tmp_path))
    assert f"no database is in {tmp_path} yet" in written.getvalue()
    (tmp_path / "postgres").mkdir()
    here.note_new_database(Settings(data_dir=tmp_path))
    assert written.getvalue().count("no database") == 1
