"""Implements the broker port on Apache Kafka with aiokafka: for production, and where one machine is not enough."""
