"""Receives frames over HTTP: checks them, stores them, and publishes their events."""

from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts

__all__ = ["GatewayParts", "create_gateway"]
