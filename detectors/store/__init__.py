"""Where models lie, and how a version gets from there to a machine."""
