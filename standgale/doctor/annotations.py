"""Checks that the Annotations service can be reached, where something is posted to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp

from console.media.settings import MediaSettings
from standgale.doctor.port import Finding, ok, warning


class AnnotationsCheck:
    """Asks the service for anything; whatever it responds, it can be reached. Nothing is posted."""

    subject = "annotations"

    def __init__(self, settings: MediaSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        if not self._settings.sends_annotations:
            return [ok("nothing is posted to an Annotations service")]
        where = urlsplit(self._settings.annotations_url).netloc
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(self._settings.annotations_url, allow_redirects=False) as response,
            ):
                return [ok(f"the Annotations service at {where} responds ({response.status})")]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return [
                warning(
                    f"the Annotations service at {where} does not respond ({type(error).__name__}); what is found in "
                    "media waits in its topic",
                    "start it, or correct media.annotations_url (STANDGALE_MEDIA__ANNOTATIONS_URL)",
                )
            ]
