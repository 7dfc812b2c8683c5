"""Finds the device token of a request."""

from __future__ import annotations

from collections.abc import Mapping

from infra.auth.bearer import bearer_token


def token_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the device token in ``headers``; "" without one."""
    token = headers.get(b"x-api-token", b"").decode("latin-1").strip()
    if token:
        return token
    return bearer_token(headers.get(b"authorization", b"").decode("latin-1"))
