"""Builds the services from settings and runs them, one per process or all in one."""
