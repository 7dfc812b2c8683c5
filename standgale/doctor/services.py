"""Checks the health of running services by their health ports."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp

from infra.telemetry.settings import TelemetrySettings
from standgale.doctor.port import DoesNotExistError, Finding, ok, problem

_PATH = "/health/ready"


class ServiceCheck:
    """Requests the readiness of one service from its health port."""

    subject = "services"

    def __init__(self, address: str) -> None:
        """Check the service at ``address``: http://host:port, or host:port."""
        self._address = (address if "://" in address else f"http://{address}").rstrip("/")

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        try:
            async with aiohttp.ClientSession() as client, client.get(self._address + _PATH) as response:
                body = await response.json()
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise DoesNotExistError(
                f"no service responds at {self._address} (telemetry.health_port, or --health)"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            return [
                problem(f"the server at {self._address} is no service of Standgale: {error}", "check what runs there")
            ]
        parts: dict[str, str] = body.get("parts", {}) if isinstance(body, dict) else {}
        ill = {name: text for name, text in parts.items() if not str(text).startswith("ready")}
        if not ill:
            return [ok(f"{self._address} is ready: {', '.join(parts)}")]
        return [
            problem(
                f"{self._address}: {name} is not ready: {text}", "it continues without a restart once that is corrected"
            )
            for name, text in ill.items()
        ]


def own_address(telemetry: TelemetrySettings) -> tuple[str, ...]:
    """Return the address of the health port in the settings; nothing when each service takes a free port."""
    host, port = telemetry.health_host, telemetry.health_port
    host = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104 (not listened on)
    return (f"http://{host}:{port}",) if port else ()
