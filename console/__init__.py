"""Serves people and their programs: uploads, jobs and their results; the gateway serves devices."""
