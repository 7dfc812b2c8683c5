"""Holds all streams of a gateway, and ends them when it stops."""

from __future__ import annotations

from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.connection import StreamConnection
from ingest.stream.metrics import CONNECTIONS
from ingest.stream.places import DevicePlaces
from ingest.stream.recent_frames import OpenReader, RecentFrames
from ingest.stream.sessions import Sessions
from ingest.stream.settings import StreamSettings


class Streams:
    """Knows the sessions and the open connections; the process makes it, and stops it before its server."""

    def __init__(self, open_reader: OpenReader, frame_partitions: int, settings: StreamSettings | None = None) -> None:
        self.settings = settings or StreamSettings()
        self.sessions = Sessions(self.settings.max_sessions, self.settings.window_frames)
        self.recent = RecentFrames(open_reader, frame_partitions, self.settings.resume_tail)
        self.places = DevicePlaces(self.settings.max_device_connections)
        self.is_stopping = False
        self._open: set[StreamConnection] = set()

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be opened."""
        return len(self._open) < self.settings.max_connections

    def add(self, connection: StreamConnection) -> None:
        """Count an open connection."""
        self._open.add(connection)
        CONNECTIONS.set(len(self._open))

    def remove(self, connection: StreamConnection) -> None:
        """Stop counting it."""
        self._open.discard(connection)
        CONNECTIONS.set(len(self._open))

    def stop(self) -> None:
        """Take no more frames; each connection is closed when those in progress are answered."""
        self.is_stopping = True
        for connection in list(self._open):
            connection.end(StreamEnd(CloseCode.RESTARTING, "the gateway stops or restarts; connect again"))
