"""Deletes what the embedded broker need not keep: retention and compaction."""
