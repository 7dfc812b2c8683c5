"""Creates and alters topics on Kafka, and lists and deletes consumer groups."""
