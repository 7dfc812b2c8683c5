"""Defines the settings of the MQTT sink: which broker, which topics, and how much may be unconfirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from infra.sections import Section, Takes

DEVICE = "{device}"
CLIENT = "{client}"
_MOST_TOPIC = 400
# A broker must take 65,535 bytes of topic; device and client ids have up to 255 characters each.
_WRONG_IN_TOPICS = ("+", "#", "\0")


def _server(url: str) -> str:
    # The value stays out of the texts: it may contain a password.
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("it is no address of a server") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or port == 0 or not url.isprintable():
        raise ValueError("it is no address of a server that begins with mqtt:// or mqtts://")
    if "@" in parts.netloc:
        raise ValueError("it has a user or a password; give mqtt.username and mqtt.password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("it has more than host and port")
    return url.rstrip("/")


def _topic(topic: str) -> str:
    wrong = [mark for mark in _WRONG_IN_TOPICS if mark in topic]
    if wrong:
        raise ValueError(f"it has {wrong[0]!r}, which is not allowed in the topic of a message")
    if topic.startswith("$"):
        raise ValueError("topics that begin with $ belong to the broker")
    return topic


MqttAddress = Annotated[str, Takes("mqtt://host:port, or mqtts://host:port with TLS"), AfterValidator(_server)]
Topic = Annotated[str, Field(min_length=1, max_length=_MOST_TOPIC), AfterValidator(_topic)]


class MqttSettings(Section):
    """Says where and how the MQTT sink publishes."""

    section = "mqtt"

    url: MqttAddress | None = Field(default=None, description="the MQTT 5 broker; none: there is no MQTT sink")
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] = Field(
        default="standgale", description="the name by which the broker knows this process; --instance-id is added to it"
    )
    username: Annotated[str, Field(min_length=1, max_length=1_000)] | None = Field(
        default=None, description="the user of the login"
    )
    password: SecretStr | None = Field(
        default=None, description="the password of the login; a file is read again for each new connection"
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of trusted certificates for mqtts; none: those of this machine"
    )
    certificate_file: Path | None = Field(default=None, description="PEM file with this client's certificate")
    key_file: Path | None = Field(default=None, description="PEM file with the key of certificate_file")
    topic: Topic = Field(
        default="standgale/detections/{device}", description="the topic of detections; {device} is the device's id"
    )
    status_topic: Topic = Field(
        default="standgale/status/{client}",
        description="the topic that has online or offline, retained; {client} is client_id",
    )
    retain: bool = Field(
        default=False, description="whether the broker keeps the newest event of each device for new subscribers"
    )
    jobs: bool = Field(
        default=False, description="whether what is found in jobs, which belongs to their clients, is published as well"
    )
    in_flight: Annotated[int, Field(ge=1, le=65_535)] = Field(
        default=100, description="how many events may be sent without a confirmation yet; the broker may allow fewer"
    )
    timeout_s: Annotated[float, Field(ge=0.1, le=300)] = Field(
        default=10.0, description="the time limit for a connection, and for the next confirmation"
    )
    keepalive_s: Annotated[int, Field(ge=2, le=3_600)] = Field(
        default=15, description="after how much silence the connection is probed; the will is sent after 1.5 times this"
    )

    @model_validator(mode="after")
    def _topics(self) -> Self:
        if self.topic.count(DEVICE) != 1:
            raise ValueError(f"{self.named('topic')}: received {self.topic!r}; it must have {DEVICE} once")
        return self

    @model_validator(mode="after")
    def _login(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError(f"{self.named('username')}: missing while mqtt.password is given")
        return self

    @model_validator(mode="after")
    def _certificates(self) -> Self:
        self.require_both("certificate_file", "key_file")
        return self

    @property
    def has_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.url is not None and self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        """The host of ``url``, which must be given."""
        return urlsplit(self.url or "").hostname or ""

    @property
    def port(self) -> int:
        """The port of ``url``, or the usual one."""
        return urlsplit(self.url or "").port or (8883 if self.has_tls else 1883)
