"""The command line and the one-process embedded run: the only place that knows all other packages."""
