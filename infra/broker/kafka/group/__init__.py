"""Consumes from Kafka as a member of a group: membership, start, losses, transactions."""
