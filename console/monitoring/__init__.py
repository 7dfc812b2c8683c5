"""Shows how much work waits, and how fast it is done."""
