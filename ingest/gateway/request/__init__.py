"""Reads and checks an upload within limits: its body, its form, its parameters."""
