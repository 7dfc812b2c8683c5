"""Reads boxes from the outputs of each export layout: one module per family of layouts."""
