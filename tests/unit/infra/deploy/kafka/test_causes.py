"""Tests the text about a failed start, with the output of real failures of Kafka 4.1 and Maven."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.deploy.kafka import causes
from infra.deploy.kafka.causes import explain, find_cause

TAKEN = """\
2026-11-29T21:26:55,197 ERROR DataPlaneAcceptor Unable to start acceptor for PLAINTEXT
org.apache.kafka.common.KafkaException: Socket server failed to bind to 127.0.0.1:30804: Address already in use.
\tat kafka.network.Acceptor.start(SocketServer.scala:530) ~[kafka_2.13-4.1.0.jar:?]
\tat kafka.Kafka.main(Kafka.scala) [kafka_2.13-4.1.0.jar:?]
Caused by: java.net.BindException: Address already in use
\tat java.base/sun.nio.ch.Net.bind0(Native Method) ~[?:?]
\t... 18 more
2026-11-29T21:26:55,234 ERROR BrokerServer [BrokerServer id=1] Received a fatal error
"""
FORMAT = """\
Formatting dynamic metadata voter directory /small/data with metadata.version 4.1-IV1.
Error while writing meta.properties file /small/data: java.io.IOException: No space left on device
"""
MAVEN = """\
[ERROR] Failed to execute goal: Could not transfer artifact from repo: Connection refused -> [Help 1]
[ERROR]
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
[ERROR] [Help 1] http://cwiki.apache.org/confluence/display/MAVEN/MojoExecutionException
"""
OLD_JAVA = """\
Error: LinkageError occurred while loading main class kafka.Kafka
\tjava.lang.UnsupportedClassVersionError: kafka/Kafka has been compiled by a more recent version of the Java Runtime
"""


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    shown = explain(TAKEN, tmp_path)
    assert shown.startswith("127.0.0.1:30804 is in use by another program; end that program")
    assert "--home" in shown


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    assert explain(FORMAT, tmp_path) == f"the disk of {tmp_path} is full; free some space and start Kafka again"


def test_a_disk_too_full_for_a_log_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_ROOM_BYTES", 1 << 62)
    assert explain("", tmp_path).startswith(f"the disk of {tmp_path} is full")


def test_the_first_error_and_its_deepest_cause_are_shown_without_the_stack() -> None:
    assert find_cause("2026-11-29T21:26:53,935 WARN A harmless\n" + TAKEN) == (
        "2026-11-29T21:26:55,197 ERROR DataPlaneAcceptor Unable to start acceptor for PLAINTEXT | "
        "Caused by: java.net.BindException: Address already in use"
    )


def test_the_first_error_of_maven_is_shown() -> None:
    assert find_cause(MAVEN) == MAVEN.splitlines()[0]


def test_an_old_java_is_shown(tmp_path: Path) -> None:
    assert "compiled by a more recent version" in explain(OLD_JAVA, tmp_path)
