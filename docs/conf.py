"""The documentation site: ``make docs`` builds it of the Markdown pages as they are, with Sphinx and MyST.

The source directory is that of the repository, so that links between pages, the README and files of the code work in
a checkout, on a forge and on the site alike.
"""

import re
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "tools")]

import publicapi  # noqa: E402

from bootfw import __version__  # noqa: E402

HERE = Path(__file__).parent

# Their docstrings change often, so that they are not in git.
(HERE / "api.md").write_text(publicapi.page())
(HERE / "events.md").write_text(publicapi.events())

project = "bootfw"
author = "The bootfw developers"
version = release = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "newsfragments/README.md",
    "plugins/*/README.md",
]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"bootfw {__version__}"
html_show_sourcelink = False
# Signatures and logs are shown as they are.
highlight_language = "text"
# Drawings for a forge (mermaid), and configurations of GRUB, are shown as text.
suppress_warnings = ["misc.highlighting_failure"]


def _without_links_to_directories(app: object, docname: str, source: list[str]) -> None:
    """A link to a directory of the code shows its name; the site has no page for it."""
    base = (HERE.parent / docname).parent

    def shown(link: re.Match[str]) -> str:
        text, target = link[1], link[2].partition("#")[0]
        return text if (base / target).is_dir() else link[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(((?!\w+:)[^)\s]+)\)", shown, source[0])


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _without_links_to_directories)  # type: ignore[attr-defined]
