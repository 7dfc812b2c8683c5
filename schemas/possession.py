"""Computes the proof that a client has the bytes of an image whose SHA-256 it names.

Events carry the SHA-256 of an image, so who knows it need not have the image. Nothing carries the proof.
"""

from __future__ import annotations

from hashlib import sha256

PROOF_PREFIX = b"standgale-proof:"


def proof_of(image: bytes) -> str:
    """Return the SHA-256 (hex) of ``standgale-proof:`` and the bytes of ``image``."""
    found = sha256(PROOF_PREFIX)
    found.update(image)
    return found.hexdigest()
