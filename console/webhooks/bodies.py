"""Defines the bodies of requests and responses about web-hooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from infra.storable import StorableText
from sinks.webhooks.conditions import Conditions

_Event = Literal["job.finished", "detections.found"]


def _callable_url(text: str) -> str:
    """Return ``text`` if it is an address that can be called. Where it leads is checked when it is called."""
    if any(ord(char) <= 0x20 or ord(char) == 0x7F for char in text):
        raise ValueError("it holds a space or a control character")
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("it must be an address such as https://example.org/hooks/standgale")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must hold no user and no password; calls are signed instead")
    if parts.fragment:
        raise ValueError("it must have no part behind #")
    _ = parts.port
    return text


class NewWebhook(BaseModel):
    """What a client asks for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    url: Annotated[str, Field(max_length=2_000), AfterValidator(_callable_url)]
    events: Annotated[list[_Event], Field(max_length=2)] = Field(
        default=["job.finished"], description="none: it is called only for jobs that name it"
    )
    conditions: Conditions = Field(default=Conditions(), description="for detections.found")
    description: Annotated[StorableText, Field(max_length=255)] | None = None


class Webhook(BaseModel):
    """A web-hook, without its secret."""

    webhook_id: str = Field(examples=["whk_a1b2c3d4e5f6g7h8"])
    url: str
    events: list[str]
    conditions: Conditions
    description: str | None
    created_at: datetime
    disabled_at: datetime | None = Field(description="when calls ended, because the receiver answered 410 Gone")
    disabled_reason: str | None
    waiting: int = Field(description="deliveries that were not taken yet")
    dead: int = Field(description="deliveries that were given up; POST …/redrive sends them again")


class WebhookWithSecret(Webhook):
    """A web-hook with its secret, which is shown this once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw…"])


class DeliveryBody(BaseModel):
    """One delivery."""

    delivery_id: str = Field(description="the header webhook-id")
    event: str
    state: Literal["waiting", "delivered", "dead"]
    attempts: int
    created_at: datetime
    next_at: datetime | None = Field(description="when it is attempted next")
    finished_at: datetime | None
    last_status: int | None = Field(description="what the receiver answered")
    last_error: str | None


class WebhookBody(BaseModel):
    """The response about one web-hook."""

    status: Literal["success"] = "success"
    data: WebhookWithSecret | Webhook


class WebhooksBody(BaseModel):
    """The response with all web-hooks of a client."""

    status: Literal["success"] = "success"
    data: list[Webhook]


class DeliveriesBody(BaseModel):
    """The response with the newest deliveries of a web-hook."""

    status: Literal["success"] = "success"
    data: list[DeliveryBody]


class RedrivenBody(BaseModel):
    """The response to a re-drive."""

    status: Literal["success"] = "success"
    data: dict[Literal["redriven"], int]
