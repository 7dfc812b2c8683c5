"""Runs mutated inputs through everything that reads bytes from outside, with bounds of time and memory for each."""
