"""Stores files: frames under their hash, in a folder or an S3 bucket."""
