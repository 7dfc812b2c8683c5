"""The demonstration: simulated drones, or the user's own pictures, through the whole pipeline, and what came of it."""
