"""Defines the kinds of faults, one module per subject; each fault starts once and ends once."""
