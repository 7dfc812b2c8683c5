"""Runs in the place of ``java``: fails, or stays silent, as a test asks; it starts no broker."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

SERVES = "serves()"
SILENT = "print('silent', flush=True), time.sleep(600)"
_SCRIPT = """\
#!{python}
import os, pathlib, socket, sys, time

settings = next(pathlib.Path(word) for word in sys.argv if word.endswith("server.properties"))
data = settings.parent / "data"

def formats():
    if data.exists():
        sys.exit(f"Log directory {{data}} is already formatted.")
    data.mkdir()
    time.sleep(0.3)
    (data / "meta.properties").write_text("formatted")

def fills_the_disk():
    formats()
    with open(settings.parent / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

def serves():
    (line,) = [line for line in settings.read_text().splitlines() if line.startswith("advertised.listeners=")]
    port = int(line.split(",")[0].rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            link, _ = server.accept()
            with link:
                link.recv(1000)
                link.sendall(bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 0]))

if "kafka.Kafka" in sys.argv:
    {broker}
else:
    {format}
"""


def install_fake_java(folder: Path, *, broker: str = SERVES, storage: str = "formats()") -> Path:
    """Write the program ``java`` into ``folder``; return a folder of jars, so that Maven is not needed.

    ``broker`` and ``storage`` are what it does as the broker and when it formats the storage.
    """
    jars = folder / "jars"
    jars.mkdir(parents=True, exist_ok=True)
    (jars / "kafka_2.13-fake.jar").touch()
    # A script that runs cannot be written to, so it is replaced.
    written = folder / "java.new"
    written.write_text(_SCRIPT.format(python=sys.executable, broker=broker, format=storage))
    written.chmod(0o755)
    written.replace(folder / "java")
    return jars


def brokers_of(home: Path) -> list[int]:
    """Return the ids of all processes that are a broker of ``home``, whether or not its files name them."""
    settings = str((home / "server.properties").resolve())
    return [process.pid for process in psutil.process_iter(["cmdline"]) if settings in (process.info["cmdline"] or ())]
