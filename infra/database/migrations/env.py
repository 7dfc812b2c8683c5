"""Runs the migrations for Alembic on the given connection, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

# Any number that no other program uses for an advisory lock in the same database.
_LOCK = 7_230_581_440


def run(connection: Connection) -> None:
    """Run the migrations in one transaction: all of them, or none."""
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        # Held to the end of the transaction; a process that waits here then reads the new revision and does nothing.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


run(context.config.attributes["connection"])
