"""Starts servers that the services need on this machine, and has the manifests for a cluster."""
