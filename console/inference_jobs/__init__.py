"""Runs inference jobs: each is a process that reads pictures from S3, and posts what it found to a call-back."""
