"""Output in terminals that take ASCII only."""

from __future__ import annotations

import io
import json
import sys

import pytest

from infra.process.terminal import plain_text, prepare_streams, writes_unicode


def written(monkeypatch: pytest.MonkeyPatch, encoding: str, environ: dict[str, str], text: str) -> bytes:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    prepare_streams(environ)
    print(text, end="", flush=True)
    return raw.getvalue()


def test_plain_text_replaces_known_characters_and_escapes_others() -> None:
    assert plain_text("640×640 px … ≥ 0.5 µm") == "640x640 px ... >= 0.5 um"
    assert plain_text("Zürich 🛰") == "Z\\u00fcrich \\ud83d\\udef0"
    assert json.loads(plain_text(json.dumps("Zürich 🛰 \udcff", ensure_ascii=False))) == "Zürich 🛰 \udcff"


@pytest.mark.parametrize(
    ("encoding", "environ"),
    [
        ("ascii", {}),
        ("latin-1", {}),
        ("utf-8", {"LANG": "C"}),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}),
        ("utf-8", {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}),
    ],
)
def test_ascii_terminals_get_plain_text(
    encoding: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written(monkeypatch, encoding, environ, "6 × … ü") == rb"6 x ... \u00fc"
    assert not writes_unicode()


@pytest.mark.parametrize(
    "environ",
    [{}, {"LANG": "C.UTF-8"}, {"LC_ALL": "en_US.UTF-8", "LANG": "C"}, {"LANG": "C", "PYTHONIOENCODING": "utf-8"}],
)
def test_other_terminals_get_every_character(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, "utf-8", environ, "6 × ü \udcff") == "6 × ü \\udcff".encode()
    assert writes_unicode()
