"""Engines that run a model on the CPU."""
