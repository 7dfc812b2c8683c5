"""Runs on a device: takes frames from a folder, keeps them on the device's disk, and uploads each of them once."""
