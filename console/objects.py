"""Opens the S3 server of inference jobs when it is first needed: its client takes long to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.inference_settings import InferenceJobsSettings
from infra.http_api.errors.api_errors import ExtraMissingError
from infra.storage.open_objects import is_s3_installed, open_objects

if TYPE_CHECKING:
    from infra.storage.s3_objects import S3Objects


class JobObjects:
    """Holds the connection to the S3 server of the settings."""

    def __init__(self, settings: InferenceJobsSettings) -> None:
        self.settings = settings
        self._objects: S3Objects | None = None

    def open(self) -> S3Objects:
        """Return the connection. Raises ExtraMissingError when the client is not installed."""
        if self._objects is None:
            self.require_installed()
            names = [self.settings.variable(name) for name in ("endpoint_url", "access_key", "secret_key", "bucket")]
            self._objects = open_objects(self.settings, ", ".join(names))
        return self._objects

    def require_installed(self) -> None:
        """Raise ExtraMissingError when the client of S3 is not installed."""
        if not is_s3_installed():
            raise ExtraMissingError(
                "this server does no inference jobs: their pictures are in S3, whose client is not installed", "s3"
            )

    async def close(self) -> None:
        """Close all connections."""
        if self._objects is not None:
            await self._objects.close()
            self._objects = None
