"""Engines that run a model on an NVIDIA GPU."""
