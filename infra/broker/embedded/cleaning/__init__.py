"""Deletes records that the embedded broker need not keep: retention and compaction."""
