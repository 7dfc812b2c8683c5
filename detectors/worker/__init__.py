"""Runs the detector worker: a member of a consumer group that makes one detections event for every frame."""
