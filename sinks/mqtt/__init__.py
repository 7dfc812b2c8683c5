"""Publishes detections to an MQTT 5 broker: a topic per device, each event confirmed, and the status of the sink."""
