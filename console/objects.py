"""Opens the S3 server of inference jobs when it is first needed: its client takes long to load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.inference_settings import InferenceJobsSettings
from infra.errors import SettingsError
from infra.extras import install_extra

if TYPE_CHECKING:
    from infra.storage.s3_objects import S3Objects


class JobObjects:
    """Holds the connection to the S3 server of the settings."""

    def __init__(self, settings: InferenceJobsSettings) -> None:
        self.settings = settings
        self._objects: S3Objects | None = None

    def open(self) -> S3Objects:
        """Return the connection. Raises SettingsError when the client is not installed."""
        if self._objects is None:
            try:
                from infra.storage.s3_objects import S3Objects  # noqa: PLC0415 (see above)
            except ModuleNotFoundError as error:
                raise SettingsError(
                    f"pictures of inference jobs are in S3, which needs {error.name!r}: {install_extra('s3')}"
                ) from error
            names = [self.settings.variable(name) for name in ("endpoint_url", "access_key", "secret_key", "bucket")]
            self._objects = S3Objects(self.settings, ", ".join(names))
        return self._objects

    async def close(self) -> None:
        """Close all connections."""
        if self._objects is not None:
            await self._objects.close()
            self._objects = None
