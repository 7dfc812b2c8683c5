"""Makes ``python -m standgale`` the command line."""

import os
import sys


def _leave_callers_folder() -> None:
    """Remove the current folder from the import path, unless it is the one that holds this package.

    ``python -m`` puts it first: a ``schemas.py`` there would hide our package. Nothing of ours is imported before.
    """
    home = __file__.removesuffix(f"{os.sep}standgale{os.sep}__main__.py")
    if not sys.flags.safe_path and sys.path and sys.path[0] != home:
        del sys.path[0]


if __name__ == "__main__":
    _leave_callers_folder()

    from standgale.cli import main

    main()
