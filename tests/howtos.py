"""The pages in docs/howto, and the code blocks on them: what is tested is what is printed."""

import re
import textwrap
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "docs" / "howto"

PAGES = sorted(path.name for path in DIRECTORY.glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language, "" for those without, in their order."""
    text = (DIRECTORY / page).read_text()
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for name, block in found if name == language]
