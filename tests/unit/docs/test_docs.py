"""Checks that pages which repeat the code agree with it, and that links lead to a file."""

from __future__ import annotations

import re

from standgale.settings import settings_markdown
from tests.paths import ROOT


def test_the_settings_page_is_the_one_the_command_prints() -> None:
    assert (ROOT / "docs" / "settings.md").read_text().endswith(settings_markdown())


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
