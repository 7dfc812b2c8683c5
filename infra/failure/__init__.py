"""Decides what happens when a record fails: try again, hold, or write a dead letter."""
