"""Checks before a service starts: all problems in one error, each on one line that names setting and remedy."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import SettingsError
from standgale.services import preflight
from standgale.services.preflight import Part, require_startable
from standgale.settings import Settings, load_settings

UP: tuple[Part, ...] = ("gateway", "detector", "postgres", "archive", "retention")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def settings(folder: Path, **overrides: object) -> Settings:
    given = {"data_dir": folder, "gateway.port": 0, "telemetry.health_port": 0, "sse.port": 0}
    return load_settings(None, {**given, **{name.replace("__", "."): value for name, value in overrides.items()}})


def refusal(wanted: Settings, parts: tuple[Part, ...]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        require_startable(wanted, parts)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "parts", [UP, *((part,) for part in ("gateway", "sources", "detector", "postgres", "sse", "retention", "sink"))]
)
def test_default_settings_can_start_and_checking_makes_no_file(tmp_path: Path, parts: tuple[Part, ...]) -> None:
    require_startable(settings(tmp_path / "new" / "data"), parts)
    assert list(tmp_path.iterdir()) == []


def test_every_problem_is_reported_on_a_line_of_its_own(tmp_path: Path, taken: int) -> None:
    file = tmp_path / "file"
    file.touch()
    wanted = settings(
        file / "data", gateway__port=taken, telemetry__health_port=taken, detector__model=tmp_path / "no.yaml"
    )
    first, *lines = refusal(wanted, UP)
    assert first == "not started, 4 problems:"
    assert [line.partition(" ")[0] for line in lines] == ["-"] * 4
    assert f"the gateway cannot listen on 127.0.0.1:{taken} (Address already in use); change gateway.host" in lines[0]
    assert f"the health page and the gateway both have port {taken}" in lines[1]
    assert f"data_dir (STANDGALE_DATA_DIR) {file / 'data'}: {file} is a file, not a folder" in lines[2]
    assert "no.yaml" in lines[3]


def test_one_problem_is_one_line(tmp_path: Path, taken: int) -> None:
    (line,) = refusal(settings(tmp_path, sse__port=taken), ("sse",))
    assert line.startswith("not started: the live stream cannot listen")
    assert "sse.port (STANDGALE_SSE__PORT)" in line
    require_startable(settings(tmp_path, sse__port=taken), UP)


def test_missing_postgres_programs_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    (line,) = refusal(settings(tmp_path), ("postgres",))
    assert "install the extra embedded" in line


def test_missing_video_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "av" else object())
    (line,) = refusal(settings(tmp_path), ("sources",))
    assert "install the extra video" in line


@pytest.mark.parametrize("parts", [UP, ("gateway",), ("detector",), ("sse",)])
def test_too_few_open_files_are_a_problem_of_every_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[Part, ...]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (24, 24))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    (line,) = refusal(settings(tmp_path), parts)
    assert line.startswith("not started: this process may open 24 files (ulimit -n) and needs at least 128; raise")


def test_rules_with_errors_are_a_problem_that_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "why_no_engine", lambda kind: f"no engine {kind}")
    path = tmp_path / "herd.pl"
    path.write_text("rule(a, D, drop) :- shell(D).\n")
    first, *lines = refusal(
        settings(tmp_path / "data", detector__rules=path, detector__rules_engine="swi"), ("detector",)
    )
    assert first == "not started, 2 problems:"
    assert "detector.rules (STANDGALE_DETECTOR__RULES): rules file herd.pl: line 1, column 21: shell/1" in lines[0]
    assert lines[1].endswith("detector.rules (STANDGALE_DETECTOR__RULES): no engine swi")


def test_faust_counts_on_kafka_only_and_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = settings(tmp_path, statistics__engine="faust")
    for parts in (("statistics",), UP):
        (line,) = refusal(wanted, parts)
        assert "STANDGALE_STATISTICS__ENGINE" in line
        assert "set statistics.engine to plain" in line
    require_startable(wanted, ("gateway",))
    on_kafka = settings(tmp_path, statistics__engine="faust", broker__kind="kafka", database__url="postgresql://u@h/d")
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    (line,) = refusal(on_kafka, ("statistics",))
    assert "install the extra faust" in line


def test_the_sink_for_annotations_needs_an_address(tmp_path: Path) -> None:
    [line] = refusal(settings(tmp_path), ("annotations",))
    assert "media.annotations_url (STANDGALE_MEDIA__ANNOTATIONS_URL or ANNOTATIONS_URL)" in line
    require_startable(settings(tmp_path, media__annotations_url="http://127.0.0.1:1"), ("annotations",))


def test_mqtt_needs_an_address_and_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = refusal(settings(tmp_path), ("mqtt",))
    assert "give mqtt.url (STANDGALE_MQTT__URL), such as mqtt://127.0.0.1:1883" in line
    wanted = settings(tmp_path, mqtt__url="mqtt://127.0.0.1:1")
    require_startable(wanted, ("mqtt",))
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "aiomqtt" else object())
    (line,) = refusal(wanted, ("mqtt",))
    assert "install the extra mqtt" in line


@pytest.mark.parametrize("part", ["archive", "retention"])
def test_an_archive_that_cannot_be_written_is_a_problem(tmp_path: Path, part: Part) -> None:
    file = tmp_path / "file"
    file.touch()
    wanted = settings(tmp_path / "data", lakefs__folder=file / "archive")
    (line,) = refusal(wanted, (part,))
    assert f"lakefs.folder (STANDGALE_LAKEFS__FOLDER) {file / 'archive'}: {file} is a file, not a folder" in line
    require_startable(wanted, ("postgres",))


def test_retention_needs_database_and_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    (line,) = refusal(settings(tmp_path / "data", frames__folder=file / "frames"), ("retention",))
    assert "frames.folder (STANDGALE_FRAMES__FOLDER)" in line
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    (line,) = refusal(settings(tmp_path / "data"), ("retention",))
    assert "install the extra embedded" in line
