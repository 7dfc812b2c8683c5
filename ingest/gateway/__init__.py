"""Receives frames over HTTP: checks them, stores them, and publishes their events."""

from ingest.acceptance.parts import TokenVerifier, VerifiedDevice
from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts

__all__ = ["GatewayParts", "TokenVerifier", "VerifiedDevice", "create_gateway"]
