"""Keeps each partition's frames in progress, its duplicate window and its holds, and commits what is finished."""
