"""Creates a role that may read all tables but the tokens."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = "devices, images, detections, inference_sessions, system_metrics, data_annotations"
_GRANT = f"GRANT SELECT ON {_TABLES} TO standgale_reader"
_REVOKE = f"REVOKE SELECT ON {_TABLES} FROM standgale_reader"  # noqa: S608 - a constant

# Roles belong to the whole server, so another database may have created this one, or may be creating it now. Managed
# servers often do not allow it; then an administrator creates it before this migration.
_CREATE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        CREATE ROLE standgale_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE WARNING 'no permission to create the role standgale_reader; reading works as the tables'' owner only';
END
$$
"""
_IF_EXISTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        {statement};
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the role if that is allowed, and give it the right to read."""
    op.execute(_CREATE)
    op.execute(_IF_EXISTS.format(statement="GRANT USAGE ON SCHEMA public TO standgale_reader"))
    op.execute(_IF_EXISTS.format(statement=_GRANT))


def downgrade() -> None:
    """Revoke the privileges; the role stays, because other databases of the server may use it."""
    op.execute(_IF_EXISTS.format(statement=_REVOKE))
    op.execute(_IF_EXISTS.format(statement="REVOKE USAGE ON SCHEMA public FROM standgale_reader"))
