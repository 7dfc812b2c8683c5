"""Opens the broker and the database of the settings for one command, and closes them after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from infra.broker.open import embedded_file, open_broker
from infra.broker.port import Broker
from infra.database.pool import Database
from infra.errors import SettingsError
from infra.process.settings_sources import secret_file
from schemas.topics import load_topics
from standgale.settings import Settings


@asynccontextmanager
async def open_database(settings: Settings, *, migrate: bool = True) -> AsyncIterator[Database]:
    """Open the database of ``settings`` for one command; an embedded one is migrated to the newest revision first."""
    database = Database.open(settings.database, settings.data_dir, secret_file("database.url"))
    try:
        if migrate and settings.database.url is None:
            # Alembic takes half a second to import, and commands on another database do not need it.
            from infra.database.migrate import migrate_up  # noqa: PLC0415

            await asyncio.to_thread(migrate_up, await database.dsn())
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_command_broker(
    settings: Settings, *, make: bool = True, as_it_is: bool = False
) -> AsyncIterator[Broker]:
    """Open the broker of ``settings`` for one command; ``as_it_is``: opening an embedded one changes no topic.

    Raises SettingsError when the embedded one has no file and the command must not ``make`` one. If the file was only
    moved away while services use it, services that start later would use the new file.
    """
    file = embedded_file(settings.data_dir)
    if not make and settings.broker.kind == "embedded" and not file.is_file():
        raise SettingsError(
            f"the embedded broker has no file {file}: no service has run there yet, or the file was moved away; "
            "correct STANDGALE_DATA_DIR, or put the file back"
        )
    if not logging.getLogger().handlers:
        # It logs each try to connect; a command has no log, and its own error says why none succeeded.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    topics = {} if as_it_is and settings.broker.kind == "embedded" else load_topics(settings.topics_file)
    broker = open_broker(settings.broker, settings.data_dir, topics, secret_file("broker.sasl_password"))
    try:
        yield broker
    finally:
        await broker.close()
