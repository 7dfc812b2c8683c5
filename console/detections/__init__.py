"""Serves detections of all frames by filters and pages, as JSON, GeoJSON, CSV and Parquet."""
