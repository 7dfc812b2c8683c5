"""Holds the migrations, oldest first by file name."""
