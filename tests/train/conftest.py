"""These tests need the train extra; where it is not installed there is nothing to collect."""

from importlib.util import find_spec

collect_ignore_glob: list[str] = [] if find_spec("torch") else ["test_*.py"]
