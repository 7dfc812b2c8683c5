"""Describes the handshake of WS /api/v1/stream; OpenAPI has no words for what follows it."""

from __future__ import annotations

from ingest.gateway.openapi.errors import STREAM_STATUSES, Json, error_responses
from ingest.settings import GatewaySettings
from ingest.stream.settings import StreamSettings
from ingest.stream.wire import max_message_bytes
from schemas.frame_messages import SUBPROTOCOL


def stream_frames(gateway: GatewaySettings, settings: StreamSettings) -> Json:
    """Return the operation of /api/v1/stream."""
    return {
        "tags": ["frames"],
        "summary": "Send many frames over one WebSocket",
        "description": "The handshake of a WebSocket. The device token is in a header, or in the first message, as "
        "pages in a browser cannot set headers. Each frame is one binary message of at most "
        f"{max_message_bytes(gateway)} bytes with the fields of `/api/v1/frames` as JSON, and is answered when it is "
        f"durable; at most {settings.window_frames} may wait for their answers. docs/stream.md of the repository has "
        "the protocol, an example in bytes, and a client.",
        "operationId": "stream_frames",
        "security": [{"DeviceToken": []}, {"Bearer": []}, {}],
        "parameters": [
            {
                "name": "Sec-WebSocket-Protocol",
                "in": "header",
                "required": True,
                "description": "The version of the protocol",
                "schema": {"type": "string", "enum": [SUBPROTOCOL]},
            }
        ],
        "responses": {
            "101": {"description": "The connection is a WebSocket now"},
            **error_responses(STREAM_STATUSES),
        },
    }
