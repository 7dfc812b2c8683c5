"""Replays frames from a folder, archive, object store, video or topic onto the backfill topic, each once."""
