"""Holds the migrations of the database schema, one file per step, each up and down."""
