"""Keeps topics, groups and transactions in one SQLite file, as the broker for the processes of one machine."""
