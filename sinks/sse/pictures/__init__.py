"""Gives clients of the live stream the pictures of its events, at addresses that say nothing about the server."""
