"""The files of an image."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property

from attrs import define

TEXT_MAX = 65536
"""Bytes that are read from a file to recognize an image."""


@define(slots=False)
class Listing:
    """The files of an image. Names are compared without upper and lower case: plain ISO 9660 has upper case only.

    :param sizes: path of each file in the image -> bytes.
    :param read: (path, most bytes) -> the first bytes of the file. It may raise OSError.
    :param volume: the volume label of an ISO 9660 image; "": there is none.
    :param size: bytes of the image itself; 0: it is a directory.
    """

    sizes: Mapping[str, int]
    read: Callable[[str, int], bytes]
    volume: str = ""
    size: int = 0

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {path.casefold(): path for path in sorted(self.sizes, reverse=True)}

    def find(self, pattern: str) -> str | None:
        """Return the path of a file; None: there is none.

        :param pattern: a path, in which ``*`` stands for anything but ``/``. Of several files that match, the last one
            in the order of their names is found: of kernels usually the latest.
        """
        folded = pattern.casefold()
        if "*" not in folded:
            return self._spelled.get(folded)
        matches = re.compile(re.escape(folded).replace(r"\*", "[^/]*")).fullmatch
        return max((path for name, path in self._spelled.items() if matches(name)), default=None)

    def text(self, path: str) -> str:
        """Return the beginning of a file as text; "": it can't be read."""
        try:
            return self.read(path, TEXT_MAX).decode("utf-8", "replace")
        except OSError:
            return ""
