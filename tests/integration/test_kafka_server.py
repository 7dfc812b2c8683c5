"""A broker of our own: found again by its home, driven from the command line, and clear about what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.deploy.kafka import KafkaServer, KafkaServerError
from infra.deploy.kafka.__main__ import main
from infra.deploy.kafka.jars import ensure_jars, kafka_version, missing_tools


@pytest.mark.integration
def test_a_running_broker_is_found_by_its_home(kafka_server: KafkaServer, capsys: pytest.CaptureFixture[str]) -> None:
    home = kafka_server.home
    other = KafkaServer(home)
    pid = kafka_server.pid
    assert pid is not None
    assert (other.pid, other.bootstrap_servers, other.answers()) == (pid, kafka_server.bootstrap_servers, True)
    other.start()
    assert other.pid == pid
    assert main(["status", "--home", str(home)]) == 0
    told = capsys.readouterr().out
    assert str(pid) in told
    assert kafka_server.bootstrap_servers in told


@pytest.mark.integration
def test_the_pid_of_another_process_is_not_taken_for_the_broker(kafka_server: KafkaServer, tmp_path: Path) -> None:
    (tmp_path / "kafka.pid").write_text(str(kafka_server.pid))
    stranger = KafkaServer(tmp_path)
    stranger.stop()
    stranger.kill()
    assert stranger.pid is None
    assert kafka_server.answers()


def test_a_home_without_a_broker_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path)]) == 1
    assert main(["stop", "--home", str(tmp_path)]) == 0
    assert "does not run" in capsys.readouterr().out
    with pytest.raises(KafkaServerError, match=r"server\.properties.*start the broker once"):
        _ = KafkaServer(tmp_path).bootstrap_servers


@pytest.mark.parametrize(("present", "missing"), [("mvn", "java"), ("java", "mvn")])
def test_a_missing_tool_is_named(
    present: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / present).write_text("#!/bin/sh\n")
    (tools / present).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    assert missing_tools() == [missing]
    assert main(["start", "--home", str(tmp_path / "home"), "--cache", str(tmp_path / "jars")]) == 1
    assert missing in capsys.readouterr().err


def test_a_failing_maven_leaves_no_half_a_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho 'no such artifact'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(KafkaServerError, match="no such artifact"):
        ensure_jars(tmp_path / "jars")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mvn"]


def test_the_version_is_read_from_the_pom() -> None:
    assert int(kafka_version().split(".")[0]) >= 4
