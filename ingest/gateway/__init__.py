"""The HTTP edge: frames come in, are checked, stored and announced."""

from ingest.gateway.app import create_gateway
from ingest.gateway.gateway_parts import GatewayParts, TokenVerifier, VerifiedDevice

__all__ = ["GatewayParts", "TokenVerifier", "VerifiedDevice", "create_gateway"]
