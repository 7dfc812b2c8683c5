"""Counts detections by device, minute and class, as events on ``stats`` and as tables."""
