"""What Alembic runs for every command: the migrations, on the connection it is handed, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

# Any number, as long as nothing else in the database takes the same advisory lock.
_LOCK = 7_230_581_440


def run(connection: Connection) -> None:
    """Run the migrations in one transaction: all of them, or none."""
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        # Held to the end of the transaction. Whoever waits here reads the revision afterwards and finds nothing to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


run(context.config.attributes["connection"])
