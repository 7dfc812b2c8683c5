"""Finds the token in the header Authorization."""

from __future__ import annotations


def bearer_token(authorization: str) -> str:
    """Return the token of ``Bearer TOKEN``; "" of any other value."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
