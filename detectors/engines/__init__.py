"""Runs models' graphs with several libraries, all with the same small port."""
