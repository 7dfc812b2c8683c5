"""Patches aiokafka so that, with uvloop, a write to a closed connection is reported as a lost connection.

asyncio's transports drop such a write. uvloop's raise RuntimeError, which aiokafka does not expect: it would end
aiokafka's background tasks, and then the process, although only the broker became unavailable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_Send = Callable[..., Any]


def patch_lost_writes() -> None:
    """Replace the two methods of aiokafka's connections that send anything. May be called again."""
    for name in ("send", "_send_sasl_token"):
        send = getattr(AIOKafkaConnection, name)
        if not hasattr(send, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _report_closed(send))


def _report_closed(send: _Send) -> _Send:
    @wraps(send)
    def reporting(connection: AIOKafkaConnection, *arguments: Any, **named: Any) -> Any:
        try:
            return send(connection, *arguments, **named)
        except RuntimeError as error:
            writer = connection._writer
            if writer is None or not writer.is_closing():
                raise
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error

    return reporting
