"""Keeps frames on the device's disk until the gateway has them."""
