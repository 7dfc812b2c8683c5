"""Makes jobs of uploaded files, publishes their frames, and says what has become of them."""
