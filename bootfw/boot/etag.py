"""Entity tags of files, which are the same on every node that has the same content."""

import time

from bootfw.ability import provides
from bootfw.interfaces import ICacheableReader, IReader

SETTLED = 2.0
"""Seconds after a change in which another one may leave the size and the whole seconds of the modification time."""


def etag_of(reader: IReader, size: int | None) -> str:
    """Return the strong entity tag (RFC 9110 section 8.8.3), without quotes, of an open file; "": it has none.

    Unless the reader has one of its own, it is made of size and modification time, which copies have too if they are
    made by rsync or tar. Some tools and file systems cut off the fraction of a second: it counts only as long as the
    file may change again within that second.

    :param size: bytes of the file, if known.
    """
    if not provides(reader, ICacheableReader):
        return ""
    etag, modified = reader.etag, reader.modified
    if etag is not None or modified is None or size is None:
        return etag or ""
    changed = reader.changed
    if changed is not None and abs(time.time() - changed) > SETTLED:
        return f"{int(modified // 1):x}-{size:x}"
    return _exact(modified, size)


def former_etag_of(reader: IReader, size: int | None) -> str:
    """Return the tag that an open file had while it had not settled, here or on another node; "": none is known.

    It has the fraction of the second, so it is as good a proof as the tag of now.
    """
    if not provides(reader, ICacheableReader) or reader.etag is not None or reader.modified is None or size is None:
        return ""
    return _exact(reader.modified, size)


def has_etag(reader: IReader, size: int | None, etag: str) -> bool:
    """Return whether *etag* is one of an open file."""
    return bool(etag) and etag in (etag_of(reader, size), former_etag_of(reader, size))


def _exact(modified: float, size: int) -> str:
    return f"{round(modified * 1e6):x}-{size:x}"
