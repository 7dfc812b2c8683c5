"""Checks that the database responds, has the newest schema and grants the needed privileges; reports its size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from infra.database.pool import Connection
from standgale.doctor.access import open_existing_database
from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok, problem
from standgale.settings import Settings

NEEDED: Mapping[str, tuple[str, ...]] = {
    "devices": ("SELECT", "INSERT", "UPDATE"),
    "images": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "inference_sessions": ("SELECT", "INSERT"),
    "detections": ("SELECT", "INSERT"),
    "system_metrics": ("SELECT", "INSERT", "DELETE"),
    "device_tokens": ("SELECT",),
    "flights": ("SELECT", "INSERT", "UPDATE"),
    "video_sources": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "video_pullers": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "api_clients": ("SELECT", "UPDATE"),
    "api_keys": ("SELECT",),
    "uploads": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "uploaded_files": ("SELECT", "INSERT"),
    "jobs": ("SELECT", "INSERT", "UPDATE"),
    "job_files": ("SELECT", "INSERT", "UPDATE"),
    "outbox": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "webhooks": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "webhook_deliveries": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "media_runs": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "annotation_posts": ("SELECT", "INSERT", "UPDATE"),
    "data_annotations": ("SELECT", "INSERT"),
    "media_frames": ("SELECT", "INSERT", "UPDATE"),
    "inference_jobs": ("SELECT", "INSERT", "UPDATE"),
    "inference_results": ("SELECT", "INSERT"),
    "inference_uploads": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "retention_intents": ("SELECT", "INSERT", "DELETE"),
    "retention_owner": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "retention_snapshots": ("SELECT", "INSERT", "DELETE"),
    "retention_runs": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "retention_pins": ("SELECT", "INSERT", "DELETE"),
    "retention_pinned_pictures": ("SELECT", "INSERT", "DELETE"),
}
"""The privileges on each table that gateway, console, sinks, and processes that pull cameras need."""
_SEQUENCES = ("inference_job_ids",)
_MIGRATE = "standgale migrate up (standgale up does it when it starts)"


class DatabaseCheck:
    """Checks the database as the user that the services log in as."""

    subject = "database"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        newest = await in_thread(_head)
        async with open_existing_database(self._settings) as database, database.acquire() as connection:
            findings = [await _about(connection)]
            findings += [finding async for finding in _schema(connection, newest)]
            findings += [finding async for finding in _privileges(connection)]
        return findings


def _head() -> str | None:
    # Slow to import, and needed only here.
    from infra.database.migrate import newest_revision  # noqa: PLC0415

    return newest_revision()


async def _about(connection: Connection) -> Finding:
    size_bytes = int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        return problem("it is read-only, as after a fail-over", "set database.url to the server that accepts writes")
    return ok(f"it responds; its size is {size_bytes / 1e6:.1f} MB")


async def _schema(connection: Connection, newest: str | None) -> AsyncIterator[Finding]:
    if await connection.fetchval("SELECT to_regclass('alembic_version') IS NULL"):
        yield problem("it has no schema", _MIGRATE)
        return
    if not await connection.fetchval("SELECT has_table_privilege('alembic_version', 'SELECT')"):
        yield ok("its revision is not visible to this user")
        return
    revision = await connection.fetchval("SELECT version_num FROM alembic_version")
    if revision == newest:
        yield ok(f"its schema is the newest ({revision})")
    else:
        remedy = f"{_MIGRATE}; if the schema is newer, update this program"
        yield problem(f"its schema is at {revision or 'base'}, this program needs {newest}", remedy)


async def _privileges(connection: Connection) -> AsyncIterator[Finding]:
    user = await connection.fetchval("SELECT current_user")
    missing = 0
    for table, wanted in NEEDED.items():
        if await connection.fetchval("SELECT to_regclass($1) IS NULL", table):
            continue
        lacking = [
            right
            for right in wanted
            if not await connection.fetchval("SELECT has_table_privilege($1, $2)", table, right)
        ]
        if lacking:
            missing += 1
            rights = ", ".join(lacking)
            yield problem(f"user {user} may not {rights} on {table}", f'GRANT {rights} ON {table} TO "{user}"')
    for sequence in _SEQUENCES:
        if await connection.fetchval("SELECT to_regclass($1) IS NULL", sequence):
            continue
        if not await connection.fetchval("SELECT has_sequence_privilege($1, 'USAGE')", sequence):
            missing += 1
            yield problem(f"user {user} may not use {sequence}", f'GRANT USAGE ON SEQUENCE {sequence} TO "{user}"')
    if not await connection.fetchval("SELECT has_database_privilege(current_database(), 'TEMP')"):
        missing += 1
        yield problem(
            f"user {user} may not make temporary tables, which the PostgreSQL sink needs",
            f'GRANT TEMPORARY ON DATABASE … TO "{user}"',
        )
    if not missing:
        yield ok(f"user {user} has the privileges that services need")
