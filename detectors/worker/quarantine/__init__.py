"""Finds frames and models that crash or hang an engine, and tries them in a separate process."""
