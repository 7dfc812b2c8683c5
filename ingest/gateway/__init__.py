"""Receives frames over HTTP: checks them, stores them, and publishes their events."""

from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts, TokenVerifier, VerifiedDevice

__all__ = ["GatewayParts", "TokenVerifier", "VerifiedDevice", "create_gateway"]
