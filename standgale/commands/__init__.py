"""Defines the verbs of the command line, one module each; a verb imports what it needs when it runs."""
