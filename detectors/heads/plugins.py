"""Makes the heads that other distributions offer as entry points of the group ``standgale.heads``."""

from __future__ import annotations

from detectors.errors import ModelLoadError
from detectors.heads.port import Head, HeadRequest
from infra.errors import SettingsError
from infra.plugin_names import PluginGroup
from infra.plugins import load_plugin, plugin_error

_PLUGINS: PluginGroup = "standgale.heads"


def make_plugin_head(layout: str, request: HeadRequest) -> Head:
    """Load the plug-in for ``layout`` and call it with ``request`` to make its head.

    Raises ModelLoadError that names the distribution when it cannot be loaded, fails, or gives something else.
    """
    try:
        factory = load_plugin(_PLUGINS, layout)
        if not callable(factory):
            raise plugin_error(_PLUGINS, layout, f"{factory!r} is not a class or function that makes a head")
        head: Head = factory(request)
        if not (hasattr(head, "mismatch") and hasattr(head, "decode")):
            raise plugin_error(_PLUGINS, layout, f"its head {head!r} has no mismatch or no decode")
    except ModelLoadError:
        raise
    except SettingsError as error:
        raise ModelLoadError(str(error)) from error
    except Exception as error:  # a plug-in may raise anything
        raise ModelLoadError(str(plugin_error(_PLUGINS, layout, f"{type(error).__name__}: {error}"))) from error
    return head
