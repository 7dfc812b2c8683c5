"""Runs the one consumer loop of all sinks; its port is what the author of a sink implements."""
