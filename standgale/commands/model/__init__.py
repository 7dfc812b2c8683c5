"""Defines the verbs of `standgale model`, one module each."""
