"""Opens the broker that the settings name; the libraries of the other one need not be installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.broker.port import Broker
from infra.broker.settings import BrokerSettings
from infra.errors import SettingsError
from infra.extras import install_extra
from schemas.topics import TopicSpec


def embedded_file(data_dir: Path) -> Path:
    """Return the file in which the embedded broker keeps everything."""
    return data_dir / "broker.sqlite"


def open_broker(
    settings: BrokerSettings, data_dir: Path, topics: Mapping[str, TopicSpec], password_file: Path | None = None
) -> Broker:
    """Return the broker of ``settings.kind``, not connected yet; the embedded one keeps its file in ``data_dir``.

    ``password_file`` is the file with Kafka's password; it is read again for each new connection. Raises SettingsError
    when a required library is not installed, or a certificate file cannot be used.
    """
    if settings.kind == "embedded":
        from infra.broker.embedded.adapter import EmbeddedBroker  # noqa: PLC0415 (a Kafka process needs none of it)

        return EmbeddedBroker(embedded_file(data_dir), topics)
    try:
        from infra.broker.kafka.adapter import KafkaBroker  # noqa: PLC0415 (an optional extra)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"broker.kind is 'kafka', which needs the package {error.name!r}: "
            f"{install_extra('kafka')}; or set STANDGALE_BROKER__KIND=embedded"
        ) from error
    return KafkaBroker(settings, topics, password_file)
