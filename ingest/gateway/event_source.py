"""Names the gateway as the source of its events."""

from __future__ import annotations

SOURCE = "/standgale/gateway"
"""The CloudEvents ``source`` of all events that the gateway publishes."""
