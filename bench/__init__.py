"""Benchmarks: each module measures one part of Standgale and what it is compared with, in the same run."""
