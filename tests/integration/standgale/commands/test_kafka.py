"""`standgale kafka`: starts, finds and stops a broker by its home folder, and names what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.deploy.kafka import KafkaCluster, KafkaServer
from standgale.cli import main
from tests.servers.fake_java import install_fake_java

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `standgale kafka …` in this process; returns the exit status."""

    def kafka(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["standgale", "kafka", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return kafka


@pytest.mark.integration
def test_status_finds_a_running_broker_by_its_home(
    kafka_server: KafkaServer, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--home", kafka_server.home) == 0
    printed = capsys.readouterr().out
    assert str(kafka_server.pid) in printed
    assert kafka_server.bootstrap_servers in printed


@pytest.mark.integration
def test_status_finds_a_cluster_and_start_refuses_another_size(
    kafka_cluster: KafkaCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--home", kafka_cluster.home) == 0
    printed = capsys.readouterr().out
    assert all(address in printed for address in kafka_cluster.bootstrap_servers.split(","))
    assert run("start", "--home", kafka_cluster.home, "--nodes", "1") == 2
    assert "has 3 node(s), not 1" in capsys.readouterr().err


@pytest.mark.integration
def test_start_and_stop_a_broker_of_a_new_home(
    tmp_path: Path, run: Run, kafka_server: KafkaServer, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "kafka"
    try:
        assert run("start", "--home", home) == 0
        assert f"clients connect to {KafkaServer(home).bootstrap_servers}" in capsys.readouterr().out
        assert KafkaServer(home).bootstrap_servers != kafka_server.bootstrap_servers
        assert KafkaServer(home).is_serving()
    finally:
        assert run("stop", "--home", home) == 0
    assert capsys.readouterr().out == "Kafka stopped\n"
    assert KafkaServer(home).pid is None


def test_a_home_without_a_broker_does_not_run(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--home", tmp_path) == 1
    assert capsys.readouterr().out == "Kafka does not run\n"
    assert run("stop", "--home", tmp_path) == 0


@pytest.mark.parametrize(("present", "missing"), [("mvn", "java"), ("java", "mvn")])
def test_start_names_a_missing_tool(
    present: str,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / present).write_text("#!/bin/sh\n")
    (tools / present).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert run("start", "--home", tmp_path / "home", "--cache", tmp_path / "jars") == 2
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "options", "shown"),
    [
        ("start", ["--home", "afile"], "afile: is not a folder; choose a different --home"),
        ("start", ["--home", "afile/x"], "afile: is not a folder; choose a different --home"),
        ("status", ["--home", "afile/x"], "afile: is not a folder; choose a different --home"),
        ("stop", ["--home", "afile"], "afile: is not a folder; choose a different --home"),
        ("start", ["--home", "/proc/x"], "/proc/x: cannot be used (No such file or directory); choose"),
        ("start", ["--cache", "afile"], "afile: is not a folder; choose a different --cache"),
        ("start", ["--cache", "/proc/x/y"], "/proc/x/y: cannot be used (No such file or directory); choose"),
    ],
)
def test_an_unusable_folder_is_named_with_its_option(
    verb: str,
    options: list[str],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("afile").touch()
    for tool in ("java", "mvn"):
        (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(verb, *options) == 2
    printed = capsys.readouterr().err
    assert "error KAFKA_SERVER: " in printed
    assert shown in printed


@pytest.mark.parametrize("verb", ["start", "status", "stop"])
def test_a_removed_current_folder_is_named(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(verb) == 2
    assert "error KAFKA_SERVER: .standgale/kafka: the current folder was removed" in capsys.readouterr().err


def test_status_shows_a_frozen_broker_that_does_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    home, jars = tmp_path / "home", install_fake_java(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    try:
        assert run("start", "--home", home, "--cache", jars) == 0
        server = KafkaServer(home)
        server.freeze()
        capsys.readouterr()
        assert run("status", "--home", home) == 1
        assert f"Kafka's process {server.pid} does not respond" in capsys.readouterr().out
        assert run("start", "--home", home, "--cache", jars) == 0
        assert f"Kafka runs as process {server.pid}" in capsys.readouterr().out
    finally:
        assert run("stop", "--home", home) == 0
