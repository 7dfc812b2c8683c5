"""Connects to Kafka: builds client options, loads certificates, and explains failures."""
