"""Adds the corners of rotated boxes to detections."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: x1, y1 … x4, y4, normalised to the frame, clockwise as seen; NULL for upright boxes."""
    # Existing rows have no corners, so they need no check, and the table is locked for a moment only.
    op.execute("ALTER TABLE detections ADD COLUMN corners DOUBLE PRECISION[]")
    op.execute(
        "ALTER TABLE detections ADD CONSTRAINT detections_corners_check "
        "CHECK (cardinality(corners) = 8 AND array_position(corners, NULL) IS NULL) NOT VALID"
    )


def downgrade() -> None:
    """Drop the column; rotated boxes keep the upright boxes that enclose them."""
    op.execute("ALTER TABLE detections DROP COLUMN corners")
