"""Uploads the frames of the spool to the gateway, one after the other."""
