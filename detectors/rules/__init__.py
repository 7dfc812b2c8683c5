"""Lets a file of Prolog rules confirm, drop or relabel the detections of a frame, and says which rule did."""
