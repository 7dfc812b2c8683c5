"""Lets ``python -m windhover`` be the command line."""

from windhover.cli import main

if __name__ == "__main__":
    main()
