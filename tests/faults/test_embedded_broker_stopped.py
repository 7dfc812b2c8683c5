"""Checks that a process stopped while it writes to the embedded broker is named, and that others continue."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.embedded.file import connection
from infra.broker.embedded.file.locks import describe_holder
from infra.broker.port import OutRecord, TopicPartition
from infra.errors import BrokerUnavailableError, TransientError
from schemas.topics import load_topics

pytestmark = pytest.mark.faults

LIVE = "frames.live"
TIMEOUT_S = 30.0

WRITER = """
import asyncio, sqlite3, sys
from pathlib import Path
from infra.broker.embedded import writer
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import OutRecord
from schemas.topics import load_topics

def commit(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT count(*) FROM records").fetchone()[0]:
        print("in the middle", flush=True)
        sys.stdin.readline()
    connection.execute("COMMIT")

async def main() -> None:
    broker = EmbeddedBroker(Path(sys.argv[1]), load_topics())
    publisher = await broker.publisher()
    writer.commit = commit
    await publisher.publish([OutRecord("frames.live", "key", b"of the stopped one")])
    print("published", flush=True)
    await broker.close()

asyncio.run(main())
"""


def spawn(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), TIMEOUT_S)).strip()


@pytest.mark.parametrize("ends", ["continues", "is killed"])
async def test_a_process_stopped_while_writing_is_named_and_nothing_is_doubled(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_WAIT_S", 0.3)
    path = tmp_path / "broker.sqlite"
    broker = EmbeddedBroker(path, load_topics())
    publisher, reader = await broker.publisher(), await broker.reader()
    process = spawn(path)
    try:
        assert await line_of(process) == "in the middle"
        process.send_signal(signal.SIGSTOP)
        mine = OutRecord(LIVE, "key", b"of the other")
        with pytest.raises(BrokerUnavailableError) as caught:
            await publisher.publish([mine])
        assert isinstance(caught.value, TransientError)
        if describe_holder(path) is not None:  # unknown on systems without /proc/locks
            assert re.search(rf"locked for 0\.3 s, now by process {process.pid}, which is stopped", str(caught.value))
        assert sum(end for _, end in (await reader.bounds(LIVE)).values()) == 0

        if ends == "is killed":
            process.kill()
            process.wait(TIMEOUT_S)
        else:
            process.send_signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert await line_of(process) == "published"
        await publisher.publish([mine])
        ((partition, (_, end)),) = [bound for bound in (await reader.bounds(LIVE)).items() if bound[1][1]]
        records = await reader.read(TopicPartition(LIVE, partition), 0, max_records=10, timeout_s=0)
        expected = [b"of the other"] if ends == "is killed" else [b"of the stopped one", b"of the other"]
        assert [one.value for one in records] == expected
        assert end == len(expected)
    finally:
        process.kill()
        process.communicate()
        await broker.close()
