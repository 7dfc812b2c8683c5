"""The verb `source` on a real database: no password is anywhere but in its file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import orjson
import pytest
from typer.testing import CliRunner

from schemas.errors import StandgaleError
from standgale.cli import app

pytestmark = pytest.mark.integration

SECRET = "geheim77"
ADDRESS = f"rtsp://admin:{SECRET}@camera.test:8554/stream?profile=2"


class Source:
    """Runs `standgale source …` in this process, and keeps all that was printed."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.environment = {
            "STANDGALE_DATA_DIR": str(folder),
            "STANDGALE_DATABASE__URL": dsn,
            "COLUMNS": "200",
        }
        self.printed = ""

    def __call__(self, *arguments: str, status: int = 0, given: str = "") -> str:
        done = CliRunner().invoke(app, ["source", *arguments], env=self.environment, input=given)
        text = done.output if done.exception is None else f"{done.output}{done.exception}"
        self.printed += text
        assert isinstance(done.exception, StandgaleError) is bool(status), text
        return text


async def stored(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch("SELECT video_sources::text FROM video_sources")]
    finally:
        await connection.close()


def test_a_source_is_added_listed_and_removed_without_its_password(migrated_dsn: str, tmp_path: Path) -> None:
    source = Source(tmp_path, migrated_dsn)
    assert "source gate added" in source("add", "gate", "-", "--frames", "rate=2", given=f"{ADDRESS}\n")
    login = tmp_path / "source-logins" / "gate"
    assert login.read_text() == f"admin:{SECRET}"
    assert login.stat().st_mode & 0o777 == 0o600
    (listed,) = orjson.loads(source("list", "--json"))
    assert (listed["name"], listed["device_id"], listed["state"]) == ("gate", "gate", "waiting")
    assert listed["address"] == "rtsp://camera.test:8554/stream"
    assert listed["options"] == {"frames": "rate=2", "transport": "tcp"}
    assert "not pulled: no process has it" in source("status", "gate")
    assert "choose another name" in source("add", "gate", ADDRESS, "--device", "b", status=2)
    assert "device gate is that of source gate already" in source("add", "b", ADDRESS, "--device", "gate", status=2)
    rows = asyncio.run(stored(migrated_dsn))
    assert len(rows) == 1
    assert SECRET not in str(rows)
    assert "source gate removed" in source("remove", "gate")
    assert orjson.loads(source("list", "--json")) == []
    assert list(login.parent.iterdir()) == []
    assert SECRET not in source.printed


def test_source_without_the_library_of_videos_is_added_with_a_note(
    migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, migrated_dsn)
    assert "no sources; `standgale source add NAME ADDRESS`" in source("list")
    assert "install the extra" not in source("add", "gate", "rtsp://camera.test/a")
    assert "up with the extra video" in source("status", "gate").replace("\n", " ")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "install the extra video" in source("add", "yard", "rtsp://camera.test/b").replace("\n", " ")
    source("remove", "gate")
    source("remove", "yard")


def test_wrong_sources_are_refused_with_what_to_do(migrated_dsn: str, tmp_path: Path) -> None:
    source = Source(tmp_path, migrated_dsn)
    for arguments, reason in (
        (("add", "gate", f"ftp://admin:{SECRET}@a/b"), "is no scheme for a video"),
        (("add", "gate", f"rtsp://admin:{SECRET}@a:x/b"), "cannot be read"),
        (("add", "../gate", "rtsp://a/b"), "letters, digits, dots"),
        (("add", "gate", "/etc/passwd"), "STANDGALE_SOURCES__FOLDERS"),
        (("add", "gate", "rtsp://a/b", "--frames", "all"), "it takes every, nth=10"),
        (("add", "gate", "rtsp://a/b", "--transport", "x"), "it takes tcp or udp"),
        (("add", "gate", "http://a/b", "--start", "yesterday"), "RFC 3339"),
        (("remove", "gate"), "standgale source list shows all"),
        (("status", "gate"), "standgale source list shows all"),
    ):
        assert reason in " ".join(source(*arguments, status=2).split())
    assert SECRET not in source.printed
