"""Says how a user adds an extra of Standgale's distribution, such as geo; errors of a missing library end in it."""

from __future__ import annotations

from schemas.errors import StandgaleError

_QUICK_START = ("server", "cpu", "embedded")
"""The extras that the README installs; ``uv tool install`` has to name all extras again, not only the new ones."""


_OF_SERVER = frozenset(
    (
        *(
            "alembic",
            "asyncpg",
            "cryptography",
            "cv2",
            "defusedxml",
            "fastapi",
            "fastapi_offline",
            "httptools",
            "limits",
            "numpy",
        ),
        *("opentelemetry", "PIL"),
        *(
            "prometheus_client",
            "psutil",
            "python_multipart",
            "simplejpeg",
            "sqlalchemy",
            "sse_starlette",
            "starlette",
            "tqdm",
        ),
        *("uvicorn", "uvloop", "websockets"),
    )
)
"""The modules of the libraries that the extra ``server`` adds; the base installation is the client side."""


class NotInstalledError(StandgaleError):
    """A command needs libraries of an extra; the message says which."""

    code = "NOT_INSTALLED"


def extra_with(module: str | None) -> str | None:
    """Return the extra that adds ``module``, which was not found; None if it is not known to be one of an extra."""
    return "server" if (module or "").partition(".")[0] in _OF_SERVER else None


def install_extra(*extras: str) -> str:
    """Return the advice to install ``extras``, with the commands for an application and for an environment with pip."""
    listed = " and ".join(filter(None, (", ".join(extras[:-1]), extras[-1])))
    names = f"the extra{'s' * (len(extras) > 1)} {listed}"
    # The packages of cpu and cuda share their files, so only one of them is installed.
    base = [name for name in _QUICK_START if not (name == "cpu" and "cuda" in extras)]
    every = ",".join(dict.fromkeys([*base, *extras]))
    return (
        f"install {names} of standgale: in its checkout `uv tool install '.[{every}]'`, "
        f"or `pip install -e '.[{','.join(extras)}]'`"
    )
