"""Lists and reads what can be replayed, in an order that is the same each time."""
