"""Decides what happens after a failure: try again, hold the partition, or write a dead letter."""
