"""Connects to Kafka: client options, certificates, and plain errors when that fails."""
