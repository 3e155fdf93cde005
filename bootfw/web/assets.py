"""The files of the page, from the package: they are served as they are, and load nothing from other hosts."""

import hashlib
from importlib.resources import files
from typing import Any

from twisted.web.http import CACHED

from bootfw.web.replies import Page

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(Page):
    """One file."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__()
        self._content = content
        self._type = TYPES[name[name.rindex(".") :]].encode()
        self._etag = b'"%s"' % hashlib.sha256(content).hexdigest()[:16].encode()

    def get(self, request: Any) -> bytes:
        """See Page. "no-cache" has a browser check the ETag each time: another version of bootfw has other files."""
        request.setHeader(b"Content-Type", self._type)
        request.setHeader(b"Cache-Control", b"no-cache")
        if request.setETag(self._etag) is CACHED:
            return b""
        return self._content


def assets() -> dict[str, Asset]:
    """Return name -> file, of all files of the page."""
    found = (each for each in files("bootfw.web").joinpath("pages").iterdir() if each.is_file())
    return {each.name: Asset(each.name, each.read_bytes()) for each in found}
