"""Checks the clocks of broker, database and file system against the clock of this machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ingest.readiness.broker_probe import BrokerProbe
from ingest.readiness.clock import GatewayClock
from schemas.topics import TopicSpec
from standgale.doctor.access import open_existing_broker, open_existing_database
from standgale.doctor.examine import in_thread
from standgale.doctor.port import DoesNotExistError, Finding, ok, problem, warning
from standgale.settings import Settings

_SUBJECT = "clocks"


def _compared(name: str, ahead_s: float, tolerance_s: float) -> Finding:
    """Judge the clock ``name``, which is ``ahead_s`` ahead of this machine's."""
    direction = "ahead of" if ahead_s > 0 else "behind"
    what = f"the {name}'s clock is {abs(ahead_s):.1f} s {direction} this machine's"
    if abs(ahead_s) <= tolerance_s:
        return ok(what)
    return problem(
        what, "correct the wrong one, and let NTP keep both right (gateway.clock_tolerance_s is the allowed difference)"
    )


class BrokerClockCheck:
    """Publishes one record to the topic of probes, which also shows that the broker accepts records."""

    subject = _SUBJECT

    def __init__(self, settings: Settings, topics: dict[str, TopicSpec]) -> None:
        self._settings = settings
        self._topics = topics

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        clock = GatewayClock.without_broker()
        async with open_existing_broker(self._settings, self._topics) as broker:
            probe = BrokerProbe(broker, clock)
            try:
                await probe.check()
            finally:
                await probe.close()
        taken = ok("the broker takes records")
        if self._settings.broker.kind == "embedded":
            return [taken]
        if clock.broker_ahead_s is None:
            remedy = "standgale topics apply, so that records get the broker's time"
            return [
                taken,
                warning("the broker's clock cannot be compared: records keep their publisher's time", remedy),
            ]
        return [taken, _compared("broker", clock.broker_ahead_s, self._settings.gateway.clock_tolerance_s)]


class DatabaseClockCheck:
    """Compares the time of the database."""

    subject = _SUBJECT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        async with open_existing_database(self._settings) as database, database.acquire() as connection:
            before_s = time.time()
            there_s = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
            ahead_s = there_s - (before_s + time.time()) / 2
        return [_compared("database", ahead_s, self._settings.gateway.clock_tolerance_s)]


class FileClockCheck:
    """Compares the time that the file system of the data directory gives a new file."""

    subject = _SUBJECT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        folder = self._settings.data_dir
        if not await in_thread(folder.is_dir):
            raise DoesNotExistError(f"there is no data directory {folder.absolute()} yet")
        ahead_s = await in_thread(lambda: _file_ahead_s(folder))
        return [_compared("file system", ahead_s, self._settings.gateway.clock_tolerance_s)]


def _file_ahead_s(folder: Path) -> float:
    before_s = time.time()
    with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as file:
        file.write(b"standgale")
        file.flush()
        return os.fstat(file.fileno()).st_mtime - (before_s + time.time()) / 2
