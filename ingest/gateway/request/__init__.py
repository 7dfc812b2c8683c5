"""Reads and checks an upload: its body, its form, its parameters, within limits."""
