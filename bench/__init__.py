"""Benchmarks: each measures one part beside what it is compared with, in one run, because machines differ."""
