"""Calls back: delivers the ends of jobs, and detections that fit conditions, to the addresses of clients."""
