"""Cuts data sets from what was detected: pictures and boxes that a query selects, in splits, with label files."""
