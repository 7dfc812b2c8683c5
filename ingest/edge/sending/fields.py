"""Returns the fields that are sent with a frame, and leaves out those that an older gateway does not have."""

from __future__ import annotations

import logging

from pydantic import JsonValue

from ingest.edge.sending.responses import Rejected
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.frame_file import Header
from schemas.timestamps import format_utc

logger = logging.getLogger(__name__)

_OPTIONAL = {
    "priority": "the backlog does not wait for live frames there",
    "flight": "frames have no flight there",
    "repeated": "a frame whose response was lost may be announced twice there",
}


class FrameFields:
    """Knows which fields the gateway takes."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._live_first = settings.live_s > 0
        self._unknown: set[str] = set()

    def of(self, header: Header, lane: Lane, *, maybe_sent: bool = False) -> dict[str, JsonValue]:
        """Return the fields of a frame that is sent from ``lane``; the camera's are numbers, metadata an object.

        ``maybe_sent``: the gateway may have it.
        """
        fields: dict[str, JsonValue] = {"captured_at": format_utc(header.captured_at)}
        if header.name:
            fields["original_filename"] = header.name
        if lane is Lane.BACKLOG and self._live_first:
            fields["priority"] = "backfill"
        if header.flight is not None:
            fields["flight"] = header.flight
        if maybe_sent:
            fields["repeated"] = "true"
        fields |= {name: float(value) for name, value in header.camera.items()}
        if header.metadata:
            fields["metadata"] = dict(header.metadata)
        return {name: value for name, value in fields.items() if name not in self._unknown}

    def is_unknown(self, refused: Rejected) -> bool:
        """Return whether the gateway is too old for a field, which is not sent to it any more."""
        name = refused.field
        if name not in _OPTIONAL or name in self._unknown or "unknown field" not in refused.reason:
            return False
        self._unknown.add(name)
        logger.warning("the gateway does not know the field %s, so it is left out: %s", name, _OPTIONAL[name])
        return True
