"""Defines the limits that protect every HTTP server of a process from its clients."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import Field, field_validator

from infra.sections import Interval, PositiveInt, PositiveSeconds, PositiveSize, Section

Share = Annotated[float, Field(gt=0, le=1)]


class HttpSettings(Section):
    """Says how large and how slow requests may be, and how many connections a server holds open."""

    section = "http"

    max_header_bytes: PositiveSize = Field(
        default=65_536, description="the largest head of a request: its first line and its headers; beyond it 431"
    )
    max_headers: PositiveInt = Field(default=100, description="the most headers of a request; beyond it 431")
    header_timeout_s: PositiveSeconds = Field(
        default=10.0, description="how long a client may take to send the head of a request; beyond it 408"
    )
    keep_alive_s: PositiveSeconds = Field(
        default=5.0, description="how long a connection stays open without a further request"
    )
    write_timeout_s: PositiveSeconds = Field(
        default=30.0, description="a client that takes nothing of what was sent to it for so long is cut off"
    )
    ping_interval_s: Interval = Field(
        default=20.0,
        description="how often a client of a WebSocket is sent a ping; one that sends nothing until the next is closed",
    )
    max_connections: PositiveInt = Field(
        default=1_024,
        description="the most open connections of each server, besides those of sse.max_clients and "
        "console.max_watchers; beyond it the one that waits longest without a request is closed, and without one a new "
        "client gets 503",
    )
    address_share: Share = Field(
        default=0.5,
        description="the share of the connections, and of the live stream's clients, that one address may have; 1 "
        "behind a proxy, where all clients have one address",
    )

    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="addresses and networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8; a client "
        "is then the last address in it that is none of them; none: the header is ignored",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            try:
                ip_network(each)
            except ValueError as error:
                raise ValueError(
                    f"{cls.named('trusted_proxies')}: received {each!r}; it takes addresses and networks such as "
                    "10.0.0.7 or 10.0.0.0/8, without bits behind the prefix"
                ) from error
        return proxies

    def with_streams(self, clients: int) -> Self:
        """Return the limits of a server that holds ``clients`` connections more, for clients that stay."""
        return self.model_copy(update={"max_connections": self.max_connections + clients})
