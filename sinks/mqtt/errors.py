"""Defines the errors of the MQTT sink, and makes them of the reason codes that a broker gives."""

from __future__ import annotations

from infra.errors import RefusedError, TransientError
from schemas.errors import StandgaleError
from sinks.mqtt.settings import MqttSettings

SERVER_BUSY = frozenset((0x88, 0x89, 0x97, 0x9F))
"""Reason codes of MQTT 5: unavailable, busy, quota exceeded, connections too frequent."""
_BY_MESSAGE = frozenset((0x81, 0x82, 0x90, 0x95, 0x99))
"""Malformed packet, protocol error, topic name invalid, packet too large, payload format invalid."""
_UNSPECIFIED = 0x80
_TAKEN_OVER = 0x8E
_NOT_AUTHORIZED = 0x87
_BAD_LOGIN = 0x86
_WRONG_VERSION = 0x84
_WRONG_CLIENT_ID = 0x85


class MqttUnavailableError(TransientError):
    """The MQTT broker did not respond in time, is busy, or closed the connection."""

    code = "MQTT_UNAVAILABLE"


class PublishRefusedError(StandgaleError):
    """The MQTT broker refuses a message; the failure policy finds out whether it is the only one."""

    code = "MQTT_PUBLISH_REFUSED"


def is_takeover(code: int | None) -> bool:
    """Return whether a connection that ended with ``code`` may have been ended for another of the same client id."""
    return code in (None, _UNSPECIFIED, _TAKEN_OVER)


def connect_error(settings: MqttSettings, client_id: str, code: int, text: str) -> StandgaleError:
    """Return the error for a connection that the broker refused with the reason ``code``."""
    what = f"{settings.url} refuses the connection ({text})"
    if code in SERVER_BUSY:
        return MqttUnavailableError(what)
    if code in (_BAD_LOGIN, _NOT_AUTHORIZED):
        return RefusedError(f"{what}: correct {settings.named('username', 'password')}, or the broker's users")
    if code == _WRONG_CLIENT_ID:
        return RefusedError(f"{what}: it does not take the client id {client_id!r}; {settings.named('client_id')}")
    if code == _WRONG_VERSION:
        return RefusedError(f"{what}: it must speak MQTT 5")
    return RefusedError(f"{what}: see the broker's log")


def closed_error(settings: MqttSettings, client_id: str, code: int | None, text: str) -> StandgaleError:
    """Return the error for a connection that ended, with the reason ``code`` if the broker gave one."""
    if code == _TAKEN_OVER:
        return RefusedError(
            f"another process connected to {settings.url} as client id {client_id!r} and took this one's place; give "
            f"each process a different {settings.named('client_id')}, or --instance-id"
        )
    if code in _BY_MESSAGE:
        return PublishRefusedError(f"{settings.url} closed the connection because of a message ({text})")
    if code == _NOT_AUTHORIZED:
        return RefusedError(f"{settings.url} closed the connection ({text}): correct the rights of its user")
    what = f"{settings.url} closed the connection ({text})"
    if code in (None, _UNSPECIFIED):
        what += (
            f"; if it does so again and again, another process may have connected as client id {client_id!r}: give "
            f"each a different {settings.named('client_id')}, or --instance-id"
        )
    return MqttUnavailableError(what)


def publish_error(settings: MqttSettings, topic: str, code: int, text: str) -> StandgaleError:
    """Return the error for a message to ``topic`` that the broker refused with the reason ``code``."""
    what = f"{settings.url} refuses a message to the topic {topic!r} ({text})"
    if code in SERVER_BUSY:
        return MqttUnavailableError(what)
    if code == _NOT_AUTHORIZED:
        return PublishRefusedError(f"{what}: let the user of {settings.named('username')} write to it")
    return PublishRefusedError(f"{what}: see the broker's log")
