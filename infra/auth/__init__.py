"""Who may send frames: device tokens, kept as hashes and checked in memory."""
