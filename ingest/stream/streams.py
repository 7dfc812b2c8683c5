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
        self._silent: dict[bool, dict[StreamConnection, None]] = {False: {}, True: {}}
        """Those that may not have said hello yet, the oldest first, without and with a token in their handshake"""

    def add(self, connection: StreamConnection, *, is_known: bool) -> None:
        """Count an open connection; the oldest one that has not said hello makes room for it, when there are many.

        ``is_known``: the handshake had a token. So nobody without a token keeps devices out.
        """
        self._open.add(connection)
        silent = self._silent[is_known]
        for each in [each for each in silent if each.has_device]:
            del silent[each]
        most = self.settings.max_connections
        if len(silent) >= (most if is_known else max(1, most // _UNKNOWN_SHARE)):
            oldest = next(iter(silent))
            del silent[oldest]
            oldest.end(StreamEnd(CloseCode.BUSY, "made room for another connection; say hello at once"))
        silent[connection] = None
        CONNECTIONS.set(len(self._open))

    def remove(self, connection: StreamConnection) -> None:
        """Stop counting it."""
        self._open.discard(connection)
        for silent in self._silent.values():
            silent.pop(connection, None)
        CONNECTIONS.set(len(self._open))

    def stop(self) -> None:
        """Take no more frames; each connection is closed when those in progress are answered."""
        self.is_stopping = True
        for connection in list(self._open):
            connection.end(StreamEnd(CloseCode.RESTARTING, "the gateway stops or restarts; connect again"))
