"""Servers and manifests: what the services run on, on one machine and in a cluster."""
