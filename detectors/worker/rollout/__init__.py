"""Switches a running worker to the model versions that are activated, and reports which versions it has."""
