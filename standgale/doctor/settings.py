"""Checks which settings differ from the defaults, and which do not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from infra.errors import SettingsError
from infra.process.settings_reference import describe_settings
from infra.telemetry.logs import MASK
from infra.texts import shortened
from ingest.gateway.request.uploads import require_memory
from standgale.doctor.port import Finding, ok, problem, warning
from standgale.settings import Settings

_LOOPBACK = ("127.", "localhost", "[::1]", "::1")


class SettingsCheck:
    """Checks the settings alone, without any server."""

    subject = "settings"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        changed = list(_changed(self._settings))
        what = f"{len(changed)} differ from the defaults: {', '.join(changed)}" if changed else "all are the defaults"
        return [ok(what), *_memory(self._settings), *_ports(self._settings), *_production(self._settings)]


def _changed(settings: Settings) -> Iterator[str]:
    defaults = Settings()
    for place, setting in describe_settings(Settings).items():
        now: object = settings
        default: object = defaults
        for name in place:
            now, default = getattr(now, name), getattr(default, name)
        if now != default:
            yield f"{setting.path}={MASK if setting.secret else shortened(str(now))}"


def _memory(settings: Settings) -> Iterator[Finding]:
    try:
        require_memory(settings.gateway)
    except SettingsError as error:
        yield problem(str(error), "the gateway does not start before that is changed")


def _ports(settings: Settings) -> Iterator[Finding]:
    ports = {
        "gateway.port": settings.gateway.port,
        "sse.port": settings.sse.port,
        "telemetry.health_port": settings.telemetry.health_port,
    }
    for name, port in ports.items():
        same = [other for other, number in ports.items() if other > name and number == port != 0]
        if same:
            yield problem(
                f"{name} and {', '.join(same)} are all {port}",
                "give each a different port; only one of them can listen",
            )


def _production(settings: Settings) -> Iterator[Finding]:
    """Warn about settings that are right on a laptop, and seldom with a cluster."""
    if settings.broker.kind == "kafka":
        servers = [server.strip() for server in settings.broker.bootstrap_servers.split(",")]
        remote = [server for server in servers if not server.startswith(_LOOPBACK)]
        if remote and settings.broker.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
            yield warning(
                f"frames travel to {', '.join(remote)} unencrypted (broker.security_protocol "
                f"{settings.broker.security_protocol})",
                "set broker.security_protocol to SSL or SASL_SSL, unless the network is closed",
            )
        if settings.broker.replication == 1:
            yield warning(
                "broker.replication is 1: each record has one copy, and is lost with its disk",
                "leave it out on a cluster of three nodes or more",
            )
        if remote and settings.frames.kind == "folder":
            yield warning(
                f"frames are stored in a folder ({settings.frames_folder}), which every gateway and detector must see",
                "share the folder between the machines, or set frames.kind to s3",
            )
        if remote and settings.database.url is None:
            yield warning(
                "the database is the embedded one, which only processes of this machine can reach",
                "set database.url to your PostgreSQL server",
            )
        if remote and not settings.encryption.keys:
            yield warning(
                "encryption.keys is not set: secrets in the database, tokens of the live stream and addresses of its "
                "pictures are those of one machine",
                "give all processes the same encryption.keys",
            )
    yield from _open_stream(settings)


def _open_stream(settings: Settings) -> Iterator[Finding]:
    if settings.sse.tokens or settings.sse.access == "keys":
        return
    listeners = [(settings.sse.host, "the live stream")]
    if settings.broker.kind == "embedded":
        # Where one process has everything, as a rule.
        listeners.append((settings.gateway.host, "the gateway, which has the live stream under `standgale up`,"))
    for host, what in listeners:
        if not host.startswith(_LOOPBACK):
            yield warning(
                f"{what} listens on {host}, and the stream needs no token", "set sse.access to keys, or set sse.tokens"
            )
            return
