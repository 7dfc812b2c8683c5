"""Writes the conditions, for SQL, under which a picture or a row belongs to a job, an upload or a medium.

{row} is a row with the digest of a picture; for IS_OF_NO_JOB one of the table images.
"""

from __future__ import annotations

# Frames of jobs that are known keep their rows, which are the job's results; their bytes belong to the job's upload.
IS_OF_NO_JOB = "NOT EXISTS (SELECT FROM jobs WHERE jobs.id = {row}.job_id)"
# A picture of an upload or a medium belongs to it until its own bytes are removed; its row may stay for longer.
IS_OF_UPLOAD = """
EXISTS (SELECT FROM uploaded_files u JOIN uploads ON uploads.id = u.upload_id
    WHERE u.sha256 = {row}.sha256 AND uploads.removed_at IS NULL)
"""
IS_FRAME_OF_MEDIUM = "EXISTS (SELECT FROM media_frames m WHERE m.sha256 = {row}.sha256)"
IS_MEDIUM = """
EXISTS (SELECT FROM media_runs m WHERE m.medium_sha256 = {row}.sha256 AND m.medium_removed_at IS NULL)
"""
