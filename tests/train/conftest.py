"""Collects the tests of training only where the train extra is installed."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = [] if find_spec("torch") else ["test_*.py"]
