"""Generated files, in parts that an announcement can carry."""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from bootfw.net.nodes.announcements import Unreadable
from bootfw.net.nodes.items import Fields

LARGEST = 1 << 20
"""Bytes of the largest file that other nodes get. A boot script has about a thousand."""

_PART = 4000
"""Bytes in a part."""


def generated_items(path: str, content: bytes) -> Iterator[list[object]]:
    """Encode a file: each item is the path, the offset of the part, the size of the file, and the part as base64.

    A file of more than LARGEST bytes is left out.
    """
    if len(content) <= LARGEST:
        for offset in range(0, len(content) or 1, _PART):
            yield [path, offset, len(content), b64encode(content[offset : offset + _PART]).decode()]


@define(eq=False)
class GeneratedParts:
    """Joins parts to files. Parts of one node arrive in order; when one is lost, its file is dropped."""

    _begun: dict[str, tuple[str, int, bytearray]] = field(factory=dict, init=False)
    """Node -> the file of which some parts have come: path, size, content so far. A node sends one file after the
    other, so the first part of the next one replaces it."""

    def add(self, node: str, item: Any) -> tuple[str, bytes] | None:
        """Take a part.

        :return: the file that it completes, (path, content); None: it completes none.

        :raise Unreadable: it is of another shape.
        """
        fields = Fields(item)
        path, offset, size, text = fields.text(), fields.number(), fields.number(), fields.text()
        try:
            part = b64decode(text, validate=True)
        except ValueError as error:
            raise Unreadable(f"a part of {path!r:.100}: {error}") from None
        if size > LARGEST:
            raise Unreadable(f"{path!r:.100} has {size} bytes")
        # Whatever does not continue the file of the node ends it: a part was lost, or the node began another file.
        begun = (path, size, bytearray()) if offset == 0 else self._begun.get(node)
        self._begun.pop(node, None)
        if begun is None or begun[:2] != (path, size) or len(begun[2]) != offset:
            return None
        begun[2].extend(part)
        if len(begun[2]) >= size:
            return (path, bytes(begun[2])) if len(begun[2]) == size else None
        self._begun[node] = begun
        return None
