"""Holds what all endpoints of the console share: who calls, limits of bodies, and the app around them."""
