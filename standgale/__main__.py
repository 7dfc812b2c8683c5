"""Makes ``python -m standgale`` the command line."""

import os
import sys


def _set_import_path() -> None:
    """Remove the current folder from the import path, unless it is the one that holds this package.

    ``python -m`` puts it first: a ``schemas.py`` there would hide our package. Nothing of ours is imported before.
    Where it holds this package, child processes need it too; they start with ``-P`` and find it by PYTHONPATH.
    """
    home = __file__.removesuffix(f"{os.sep}standgale{os.sep}__main__.py")
    if sys.flags.safe_path or not sys.path:
        return
    if sys.path[0] == home:
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join((home, others) if others else (home,))
    else:
        del sys.path[0]


if __name__ == "__main__":
    _set_import_path()

    from standgale.start import main

    main()
