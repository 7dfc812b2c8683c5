"""Limits a body that is an image, or a form with one."""

from __future__ import annotations

from dataclasses import dataclass

from infra.http_api.request.body import BodyLimit
from ingest.images.check import FileTooLargeError
from schemas.errors import StandgaleError


@dataclass(frozen=True, slots=True)
class ImageLimit(BodyLimit):
    """Limits a body that is an image, or a form with one image of at most ``image_bytes``."""

    image_bytes: int = 0

    @classmethod
    def of_image(cls, image_bytes: int) -> ImageLimit:
        """Return the limit of a body that is an image of at most ``image_bytes``."""
        return cls(image_bytes, "gateway.max_image_bytes", image_bytes=image_bytes)

    @classmethod
    def of_form(cls, form_bytes: int, image_bytes: int) -> ImageLimit:
        """Return the limit of a form, which has an image of at most ``image_bytes``, fields, and headers of parts."""
        return cls(form_bytes, "gateway.max_image_bytes", image_bytes=image_bytes)

    def exceeded(self, size: str) -> StandgaleError:
        """Return the error, which names the limit of the image, because it is the one that can be set."""
        around = self.most_bytes - self.image_bytes
        other = f", and {around} for everything else in the form" if around else ""
        return FileTooLargeError(
            f"the upload has {size} bytes; at most {self.image_bytes} are accepted for the image ({self.reason}){other}"
        )
