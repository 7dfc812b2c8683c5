"""Waits for the answers to frames: follows the partitions of detections and dead letters that somebody waits on."""
