"""Reads boxes from a model's outputs: one head per export layout, and the choice of the head for a model."""
