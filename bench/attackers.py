"""Sends the requests of an attack at a steady rate: ``python -m bench.attackers PORT RATE SECONDS FILE …``.

It is a separate process, so that its own work does not delay what the benchmark measures. Each FILE is one request;
they are sent in turn. A connection whose FILE ends in ``.hold`` stays open without more bytes. It prints ``ready``,
then how many requests it sent, by status (0: closed without a response, or held open).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import orjson
import uvloop

_RESPONSE_S = 5.0
_MOST_HELD = 2_000


@dataclass(frozen=True, slots=True)
class _Request:
    """Holds the bytes of one request."""

    data: bytes
    hold: bool


async def _send(port: int, attack: _Request, end: float, statuses: Counter[int]) -> None:
    """Send one request over its own connection."""
    status = 0
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        statuses[-1] += 1
        return
    try:
        writer.write(attack.data)
        wait_s = max(0.1, end - time.monotonic()) if attack.hold else _RESPONSE_S
        async with asyncio.timeout(wait_s):
            line = await reader.readline()
            status = int(line.split()[1]) if line else 0
    except (OSError, TimeoutError, ValueError, IndexError):
        status = 0
    finally:
        statuses[status] += 1
        writer.transport.abort()


async def _main(port: int, rate: float, seconds: float, files: list[Path]) -> None:
    chosen = [_Request(path.read_bytes(), path.suffix == ".hold") for path in files]
    statuses: Counter[int] = Counter()
    tasks: set[asyncio.Task[None]] = set()
    print("ready", flush=True)
    begin = time.monotonic()
    for number, attack in enumerate(cycle(chosen)):
        due = begin + number / rate
        if due - begin >= seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if len(tasks) < _MOST_HELD:
            task = asyncio.create_task(_send(port, attack, begin + seconds, statuses))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    late_s = time.monotonic() - begin - seconds
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    found = {"statuses": {str(status): count for status, count in statuses.items()}, "late_s": max(0.0, late_s)}
    print(orjson.dumps(found).decode(), flush=True)


if __name__ == "__main__":
    _port, _rate, _seconds, *_files = sys.argv[1:]
    uvloop.run(_main(int(_port), float(_rate), float(_seconds), [Path(name) for name in _files]))
