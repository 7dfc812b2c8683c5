"""Tests starts of a local Kafka that go wrong, mostly with a program in the place of Java."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.deploy.kafka import KafkaServer, KafkaServerError, server
from infra.deploy.kafka.config import client_address, write_configs
from infra.deploy.kafka.local import find_kafka, start_kafka, stop_kafka
from infra.process.ending import exit_at_signals
from infra.storage.durable_files import locked_folder
from tests.servers.fake_java import SILENT, brokers_of, install_fake_java
from tests.servers.kafka import require_kafka_tools


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH: no program but those in it is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of a broker that is ended after the test."""
    folder = tmp_path / "home"
    yield folder
    for pid in brokers_of(folder):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    stop_kafka(folder)
    subprocess.run(["/bin/umount", str(folder)], check=True)


def test_only_java_is_needed_to_start_find_and_stop(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools)
    (started,) = start_kafka(home, cache=jars)
    assert started.responds
    assert find_kafka(home) == [started]
    assert brokers_of(home) == [started.pid]
    assert [node.pid for node in stop_kafka(home)] == [None]
    assert brokers_of(home) == []


@pytest.mark.parametrize("bytes_before", [32, 0], ids=["before the process exists", "after the process was started"])
def test_a_full_disk_leaves_no_process_behind(
    bytes_before: int, tools: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PID_FILE_BYTES", bytes_before)
    jars = install_fake_java(tools, storage="fills_the_disk()")
    with pytest.raises(KafkaServerError, match=rf"^{small_disk}: the disk is full; free some space and try again"):
        start_kafka(small_disk, cache=jars)
    assert brokers_of(small_disk) == []
    assert [node.pid for node in find_kafka(small_disk)] == [None]
    (small_disk / "filler").unlink()
    assert start_kafka(small_disk, cache=jars)[0].responds


def test_a_full_disk_leaves_no_half_written_settings(tools: Path, small_disk: Path) -> None:
    jars = install_fake_java(tools)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(KafkaServerError, match=rf"^{small_disk}: the disk is full"):
        start_kafka(small_disk, cache=jars)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    assert start_kafka(small_disk, cache=jars)[0].responds


def test_a_disk_that_is_full_while_formatting_is_named(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools, storage="sys.exit('java.io.IOException: No space left on device')")
    with pytest.raises(KafkaServerError, match=rf"StorageTool failed .*: the disk of {home} is full; free some space"):
        start_kafka(home, cache=jars)


def test_an_error_of_an_earlier_start_is_not_reported(tools: Path, home: Path) -> None:
    for error in ("first reason", "second reason"):
        jars = install_fake_java(tools, broker=f"sys.exit('{error}')")
        with pytest.raises(KafkaServerError, match=rf"Kafka ended while starting: {error} \(log: {home}/kafka.log\)$"):
            start_kafka(home, cache=jars)


def test_java_that_cannot_be_run_is_named(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools)
    (tools / "java").write_text("#!/no/such/interpreter\n")
    with pytest.raises(KafkaServerError, match=rf"^{tools}/java: cannot be started \(No such file or directory\)"):
        start_kafka(home, cache=jars)


def test_starts_at_the_same_time_exclude_each_other(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools)

    def outcome(_: int) -> str:
        try:
            return str(start_kafka(home, cache=jars)[0].pid)
        except KafkaServerError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(outcome, range(3)))
    (pid,) = brokers_of(home)
    assert str(pid) in outcomes
    assert all(text == str(pid) or f"another start is in progress in {home}" in text for text in outcomes), outcomes


def test_a_start_in_progress_is_named(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools)
    home.mkdir()
    with (
        locked_folder(home, exclusive=True),
        pytest.raises(KafkaServerError, match=rf"^another start is in progress in {home}; wait"),
    ):
        start_kafka(home, cache=jars)
    assert start_kafka(home, cache=jars)[0].responds


def test_a_frozen_broker_does_not_respond_and_a_start_continues_it(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools)
    (started,) = start_kafka(home, cache=jars)
    KafkaServer(home).freeze()
    (found,) = find_kafka(home)
    assert (found.pid, found.responds) == (started.pid, False)
    assert start_kafka(home, cache=jars) == [started]


def test_a_broker_that_stays_silent_is_started_again(tools: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_RESUME_S", 0.2)
    jars = install_fake_java(tools, broker=SILENT)
    home.mkdir()
    KafkaServer(home, jars).launch()
    (silent,) = brokers_of(home)
    while "silent" not in (home / "kafka.log").read_text():  # until then it has not read its program
        time.sleep(0.01)
    install_fake_java(tools)
    (started,) = start_kafka(home, cache=jars)
    assert started.responds
    assert brokers_of(home) == [started.pid]
    assert started.pid != silent


def test_an_interrupted_start_ends_the_broker_it_started(tools: Path, home: Path) -> None:
    jars = install_fake_java(tools, broker=SILENT)

    def interrupt() -> None:
        while not brokers_of(home):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    former = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        with pytest.raises(SystemExit) as ended, exit_at_signals():
            start_kafka(home, cache=jars)
        interrupting.result()
    assert ended.value.code in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert brokers_of(home) == []
    assert signal.getsignal(signal.SIGTERM) is former


@pytest.mark.integration
def test_a_port_in_use_is_named_by_a_real_broker(home: Path) -> None:
    require_kafka_tools()
    write_configs([home])
    address = client_address(home)
    with (
        socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))),
        pytest.raises(KafkaServerError, match=f"ended while starting: {address} is in use by another program"),
    ):
        start_kafka(home)
