"""Lets clients keep their web-hooks: addresses that are called when a job ends or something is found."""
