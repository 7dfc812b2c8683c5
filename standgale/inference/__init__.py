"""Runs one inference job: reads its variables, finds things in its pictures, and delivers the results."""
