"""Takes frames from the broker, decides which are processed, and makes their detections events or dead letters."""
