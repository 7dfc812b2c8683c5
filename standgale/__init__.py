"""Composes all other packages into services and a command line; the only package that knows all of them."""
