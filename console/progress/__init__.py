"""Streams the progress of jobs to the clients that watch them."""
