"""Makes a write to a connection that is closed already a lost connection to aiokafka, also where uvloop runs.

asyncio's own transports drop such a write. uvloop's raise RuntimeError, which aiokafka does not expect: it passes
through its background tasks and ends them, and in the end the process, although the broker only went away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_Send = Callable[..., Any]


def patch_lost_writes() -> None:
    """Change aiokafka's connections, of which nothing else sends anything. May be called again."""
    for name in ("send", "_send_sasl_token"):
        send = getattr(AIOKafkaConnection, name)
        if not hasattr(send, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _telling(send))


def _telling(send: _Send) -> _Send:
    @wraps(send)
    def telling(connection: AIOKafkaConnection, *arguments: Any, **named: Any) -> Any:
        try:
            return send(connection, *arguments, **named)
        except RuntimeError as error:
            writer = connection._writer
            if writer is None or not writer.is_closing():
                raise
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error

    return telling
