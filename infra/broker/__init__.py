"""Defines the broker port and its two adapters: ``kafka`` for production, ``embedded`` for one machine."""
