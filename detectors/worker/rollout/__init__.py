"""Brings model versions into service on a running worker, and reports which ones it has."""
