"""Runs the demonstration: sends frames of simulated drones or own pictures through the pipeline, and reports."""
