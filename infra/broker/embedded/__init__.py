"""The embedded broker: topics, groups and transactions in one SQLite file, for the processes of one machine."""
