"""Consumes from Kafka as a member of a group, and commits plainly or in transactions."""
