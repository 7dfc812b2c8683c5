"""Makes, revokes and checks the tokens of devices; keeps only their hashes."""
