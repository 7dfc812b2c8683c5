"""The verbs of `standgale model`."""
