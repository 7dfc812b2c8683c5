"""Asks Kafka about topics, offsets and groups."""
