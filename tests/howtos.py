"""The pages in docs/howto, and the code blocks on them, for tests that execute them."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIRECTORY = ROOT / "docs" / "howto"
README = "README.md"

PAGES = sorted(path.name for path in DIRECTORY.glob("*.md"))


def read(page: str) -> str:
    """A page of docs/howto, or the README."""
    return (ROOT / page if page == README else DIRECTORY / page).read_text()


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language, "" for those without, in their order."""
    return [block for name, block in all_blocks(page) if name == language]


def all_blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of each code block, in their order."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", read(page), re.MULTILINE | re.DOTALL)
    return [(name, textwrap.dedent(block)) for name, block in found]


def commands(page: str) -> list[str]:
    """The commands in the tables of a page, such as ``bootfw leases``."""
    rows = re.findall(r"^\| [^|]+ \| (`bootfw [^|]*) \|$", read(page), re.MULTILINE)
    return [command for row in rows for command in re.findall(r"`(bootfw [^`]*)`", row)]
