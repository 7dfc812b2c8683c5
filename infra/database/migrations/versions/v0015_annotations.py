"""Creates the table of what was posted to Annotations, and lets tokens of media outlive their runs until it is."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_UP = (
    # Whether what is found is posted, with the token of the caller.
    "ALTER TABLE media_runs ADD COLUMN annotate BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE media_runs DROP CONSTRAINT media_runs_check1",
    """
    ALTER TABLE media_runs ADD CONSTRAINT media_runs_secrets CHECK (
        finished_at IS NULL OR (source IS NULL AND (annotate OR (token IS NULL AND refresh_token IS NULL)))
    )
    """,
    """
    CREATE INDEX media_runs_kept_tokens ON media_runs (finished_at)
    WHERE finished_at IS NOT NULL AND token IS NOT NULL
    """,
    """
    CREATE TABLE annotation_posts (
        run_id UUID NOT NULL REFERENCES media_runs (id) ON DELETE CASCADE,
        frame_id UUID NOT NULL,
        -- FALSE: nothing was found in the frame, so there was nothing to post.
        posted BOOLEAN NOT NULL,
        -- How the service calls what it made of it.
        annotation_id VARCHAR(255),
        -- Annotations that came back, until they are rows of data_annotations.
        returned JSONB,
        noted_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        PRIMARY KEY (run_id, frame_id)
    )
    """,
    "CREATE INDEX annotation_posts_returned ON annotation_posts (noted_at) WHERE returned IS NOT NULL",
)
_DOWN = (
    "DROP TABLE annotation_posts",
    "DROP INDEX media_runs_kept_tokens",
    """
    UPDATE media_runs SET token = NULL, refresh_token = NULL, refresh_at = NULL
    WHERE finished_at IS NOT NULL AND (token IS NOT NULL OR refresh_token IS NOT NULL)
    """,
    "ALTER TABLE media_runs DROP CONSTRAINT media_runs_secrets",
    """
    ALTER TABLE media_runs ADD CONSTRAINT media_runs_check1 CHECK (
        finished_at IS NULL OR (source IS NULL AND token IS NULL AND refresh_token IS NULL)
    )
    """,
    "ALTER TABLE media_runs DROP COLUMN annotate",
)
_GRANT = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT (annotate) ON media_runs TO standgale_reader;
        GRANT SELECT ON annotation_posts TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the table; tokens of finished runs were removed with their end so far."""
    for statement in (*_UP, _GRANT):
        op.execute(statement)


def downgrade() -> None:
    """Drop it, and forget the tokens that are still kept; annotations that came back stay."""
    for statement in _DOWN:
        op.execute(statement)
