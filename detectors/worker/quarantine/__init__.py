"""Finds frames and models that crash or fail by themselves, and tries them in a process of their own."""
