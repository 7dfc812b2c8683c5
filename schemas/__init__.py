"""The contracts everyone shares: events, geometry, topics and the documents generated from them. Pure, no I/O loops."""
