"""Connects to PostgreSQL, runs an embedded server, explains its errors, and migrates the schema."""
