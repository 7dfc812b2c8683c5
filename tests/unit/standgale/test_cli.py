"""Checks what the command line prints for errors; the verbs run in this process."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path

import pytest

from schemas.errors import StandgaleError
from standgale import cli
from standgale.commands.context import Context

LONG = "x" * 100_000


def errors_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["standgale", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [LONG],
        ["--" + LONG],
        ["--config", LONG, "settings"],
        ["detect", LONG],
        ["detect", "x.jpg", f"--scales={LONG}"],
        ["detect", "x.jpg", "--mode", LONG],
        ["detect", "x.jpg", "y.jpg", LONG],
        ["sink", LONG],
        ["model", "inspect", LONG],
        ["model", LONG],
    ],
    ids=lambda arguments: " ".join(one[:12] for one in arguments),
)
def test_long_arguments_are_repeated_in_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    printed = errors_of(monkeypatch, capsys, *arguments)
    assert "characters" in printed
    assert len(printed) < 3_000


def test_detect_of_several_pictures_advises_their_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = errors_of(monkeypatch, capsys, "detect", "a.jpg", "--out", "b.png", "c.jpg")
    assert "give one picture, or the folder that has them" in " ".join(printed.replace("│", "").split())


def test_a_long_setting_is_repeated_in_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDGALE_DATA_DIR", LONG)
    monkeypatch.setenv("STANDGALE_TOPICS_FILE", LONG)
    printed = errors_of(monkeypatch, capsys, "gateway")
    assert "topics_file (STANDGALE_TOPICS_FILE): xxx" in printed
    assert len(printed) < 3_000


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "Too many open files", "some.yaml")

    monkeypatch.setattr(Context, "settings", fail)
    printed = errors_of(monkeypatch, capsys, "detect", str(Path(__file__)))
    assert printed == "error OPEN_FILES: Too many open files; raise the limit of open files (ulimit -n)\n"


def test_an_error_that_cannot_be_printed_keeps_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["standgale", "detect", "--mode"])
    monkeypatch.setattr(sys, "stderr", Full())
    monkeypatch.setattr(cli, "_run", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2


def fails(_arguments: list[str]) -> None:
    raise StandgaleError("a reason")
