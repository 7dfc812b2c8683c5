"""Runs the consumer loop of all sinks; the author of a sink implements :mod:`infra.consuming.port`."""
