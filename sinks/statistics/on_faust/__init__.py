"""Counts on Kafka with Faust: the counts are kept in a table of Faust, whose changes are a topic of their own."""
