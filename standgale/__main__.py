"""Lets ``python -m standgale`` be the command line."""

from standgale.cli import main

if __name__ == "__main__":
    main()
