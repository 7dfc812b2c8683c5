"""Checks an installation for `standgale doctor`: one subject per module; no check changes anything."""
