"""Defines why an image is not decoded; the gateway and the detectors raise their own errors with the same text."""

from __future__ import annotations

from schemas.errors import StandgaleError


class UnreadableImageError(StandgaleError):
    """An image cannot be decoded, as its header shows."""

    code = "UNREADABLE_IMAGE"


class UnsupportedImageError(UnreadableImageError):
    """It is a format or a variant that is not decoded; the text names one that is."""


class DamagedImageError(UnreadableImageError):
    """It is cut off or contradicts itself."""


class EmptyImageError(UnreadableImageError):
    """Its header leaves the size open."""


class CostlyImageError(UnreadableImageError):
    """Decoding it would take far more work than an image of its size needs."""
