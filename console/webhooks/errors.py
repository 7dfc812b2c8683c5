"""Defines the errors of web-hooks."""

from __future__ import annotations

from infra.http_api.errors.api_errors import ApiError


class WebhookNotFoundError(ApiError):
    """There is no such web-hook of this client."""

    code = "WEBHOOK_NOT_FOUND"
    status = 404


class TooManyWebhooksError(ApiError):
    """The client has as many web-hooks as it may have."""

    code = "TOO_MANY_WEBHOOKS"
    status = 409


def webhook_not_found(webhook_id: str) -> WebhookNotFoundError:
    """Return the error for a web-hook that this client does not have."""
    return WebhookNotFoundError(f"there is no web-hook {webhook_id[:60]!r}", field="webhook_id")
