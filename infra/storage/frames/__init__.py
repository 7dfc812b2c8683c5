"""Defines the port of a frame store and its adapters: a folder, or an S3 bucket; images are stored by their hash."""
