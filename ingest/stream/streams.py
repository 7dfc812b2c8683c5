"""Holds all streams of a gateway, and ends them when it stops."""

from __future__ import annotations

from ingest.stream.closing import CloseCode, StreamEnd
from ingest.stream.connection import StreamConnection
from ingest.stream.metrics import CONNECTIONS
from ingest.stream.places import DevicePlaces
from ingest.stream.recent_frames import OpenReader, RecentFrames
from ingest.stream.sessions import Sessions
from ingest.stream.settings import StreamSettings

# Connections of clients that are not known yet may be so many, as a part of the others, which they come on top of.
_UNKNOWN_SHARE = 4


class Streams:
    """Knows the sessions and the open connections; the process makes it, and stops it before its server."""

    def __init__(self, open_reader: OpenReader, frame_partitions: int, settings: StreamSettings | None = None) -> None:
        self.settings = settings or StreamSettings()
        self.sessions = Sessions(self.settings.max_sessions, self.settings.window_frames)
        self.recent = RecentFrames(open_reader, frame_partitions, self.settings.resume_tail)
        self.places = DevicePlaces(self.settings.max_connections, self.settings.max_device_connections)
        self.is_stopping = False
        self._open: set[StreamConnection] = set()
        self._unknown: dict[StreamConnection, None] = {}
        """Those whose handshake had no token, and that may not have said hello yet; the oldest first"""

    def add(self, connection: StreamConnection, *, is_known: bool) -> None:
        """Count an open connection; one of an unknown client takes the place of the oldest one, when there are many.

        So nobody without a token keeps devices out.
        """
        self._open.add(connection)
        if not is_known:
            for each in [each for each in self._unknown if each.has_device]:
                del self._unknown[each]
            if len(self._unknown) >= max(1, self.settings.max_connections // _UNKNOWN_SHARE):
                oldest = next(iter(self._unknown))
                del self._unknown[oldest]
                oldest.end(StreamEnd(CloseCode.BUSY, "made room for another connection; say hello at once"))
            self._unknown[connection] = None
        CONNECTIONS.set(len(self._open))

    def remove(self, connection: StreamConnection) -> None:
        """Stop counting it."""
        self._open.discard(connection)
        self._unknown.pop(connection, None)
        CONNECTIONS.set(len(self._open))

    def stop(self) -> None:
        """Take no more frames; each connection is closed when those in progress are answered."""
        self.is_stopping = True
        for connection in list(self._open):
            connection.end(StreamEnd(CloseCode.RESTARTING, "the gateway stops or restarts; connect again"))
