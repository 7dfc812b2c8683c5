"""Defines the CloudEvents ``source`` of the events that the gateway publishes."""

from __future__ import annotations

SOURCE = "/standgale/gateway"
"""The CloudEvents ``source`` of all events that the gateway publishes."""
