"""Checks that pages which repeat the code agree with it, and that links lead to a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from standgale.settings import settings_markdown
from tests.paths import ROOT


def test_the_settings_page_is_the_one_the_command_prints() -> None:
    assert (ROOT / "docs" / "settings.md").read_text().endswith(settings_markdown())


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


_TEXTS = ("*.md", "*.py", "*.toml", "*.yaml", "*.yml", "Makefile", "*.sh", "*.in")
_INSTALL = re.compile(r"(?:pipx?|uv tool|uv) (?:install|inject|add|sync|run)\b[^\n`]*")
# A name of a package index with or without extras: standgale, 'standgale[geo]', "standgale==1", standgale-geo.
_FROM_INDEX = re.compile(
    r"(?<![\w./-])(?:install|add)\b(?:\s+-{1,2}\S+)*\s+[\"']?(?:standgale|windhover)\b", re.IGNORECASE
)
_EXTRAS_OF_CHECKOUT = re.compile(r"\bpip install (?![^`\n]*-e ['\"]?[./])[^`\n]*['\"](?:\.|/path/to/checkout)\[")


def _install_commands() -> list[tuple[str, str]]:
    """Every command in the repository that installs something, with the file that it is in."""
    found = []
    for pattern in _TEXTS:
        for path in ROOT.rglob(pattern):
            name = str(path.relative_to(ROOT))
            if not name.startswith((".", "shared", "build", "dist")) and path != Path(__file__):
                text = path.read_text(encoding="utf-8", errors="replace")
                found += [(name, command) for command in _INSTALL.findall(text)]
    return found


def test_no_command_installs_standgale_from_a_package_index() -> None:
    commands = _install_commands()
    assert any("-e '.[" in command for _, command in commands)
    assert [one for one in commands if _FROM_INDEX.search(one[1]) or _EXTRAS_OF_CHECKOUT.search(one[1])] == []


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("pip install 'standgale[geo]'", True),
        ("pip install --upgrade Standgale", True),
        ('uv add "standgale[cpu]"', True),
        ("pip install '.[geo]'", True),
        ("pip install '/path/to/checkout[geo]'", True),
        ("pip install -e '.[geo]'", False),
        ("pip install -e '/path/to/checkout[server,testing]'", False),
        ("uv tool install '.[server,cpu,embedded]' --with /path/to/plugin", False),
        ("pipx inject standgale /path/to/plugin", False),
    ],
)
def test_the_search_for_install_commands_knows_the_wrong_forms(command: str, wrong: bool) -> None:
    assert _INSTALL.fullmatch(command)
    assert bool(_FROM_INDEX.search(command) or _EXTRAS_OF_CHECKOUT.search(command)) is wrong


def test_no_command_installs_the_checkout_and_a_plug_in_at_once() -> None:
    # pip before 23.3 (that of Python 3.11.7, for example) then looks for standgale in the index and fails.
    at_once = re.compile(r"pip install[^`\n]*-e '[^']*\[[^']*\]'[ \t]+[^\s#`]")
    assert at_once.search("pip install -e '/path/to/checkout[server,testing]' .    # the checkout")
    assert [one for one in _install_commands() if at_once.search(one[1])] == []
