"""Cuts the training crops from drawn scenes and photographs, and mixes them to batches."""
