"""Signs deliveries as Standard Webhooks does (https://www.standardwebhooks.com, version 1, symmetric)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new secret: ``whsec_`` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def headers_of(delivery_id: str, timestamp_s: int, payload: bytes, secret_texts: Sequence[str]) -> dict[str, str]:
    """Return the headers that a receiver verifies; one signature per secret, so that it may know either of them."""
    signed = f"{delivery_id}.{timestamp_s}.".encode() + payload
    signatures = [_signature(signed, base64.b64decode(text.removeprefix(PREFIX))) for text in secret_texts]
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
    }


def _signature(signed: bytes, key: bytes) -> str:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
