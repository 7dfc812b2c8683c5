"""Takes frames from the broker, decides what happens to each, and answers them."""
