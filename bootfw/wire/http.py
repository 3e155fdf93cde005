"""The target, preconditions and ranges of an HTTP request for a file (RFC 9110 sections 13 and 14)."""

import calendar
import re
from collections.abc import Callable
from email.utils import formatdate, parsedate_tz

from attrs import evolve, frozen

Header = Callable[[str], str | None]
"""Returns the value of the request's header of that name; repeated headers are joined by commas; None: absent."""

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
# No file is longer than 30 digits can say, and int() refuses thousands of digits.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,30})-([0-9]{0,30})[ \t]*", re.IGNORECASE)


_ENCODED = re.compile(rb"[ \x80-\xff]")


def encode_target(line: bytes) -> bytes:
    """Return a request line with the spaces and non-ASCII bytes of its target percent-encoded.

    Boot programs write file names into it unencoded, as GRUB's and U-Boot's HTTP clients do. The target is the part
    between the first space and the last one.
    """
    method, first, rest = line.partition(b" ")
    target, last, version = rest.rpartition(b" ")
    if not first or not last:
        return line
    encoded = _ENCODED.sub(lambda found: b"%%%02X" % found[0][0], target.strip(b" "))
    return b" ".join((method, encoded, version))


def names_directory(filename: str) -> bool:
    """Return whether a decoded *filename* can only name a directory: ``/a/``, ``/a/.``, ``/a/..``; not for the root."""
    parts = filename.replace("\\", "/").split("/")
    return parts[-1] in ("", ".", "..") and any(part not in ("", ".") for part in parts)


@frozen
class Validators:
    """The validators of one version of a file (RFC 9110 section 8.8)."""

    etag: str = ""
    """A strong entity tag with its quotes; "" when there is none."""
    modified: int | None = None
    """Whole seconds since the epoch; None when not known."""
    former_etag: str = ""
    """Another strong tag that this version may have been given before, with its quotes; "": none."""

    def has(self, etag: str) -> bool:
        """Return whether a tag, with its quotes, is one of this version."""
        return bool(etag) and etag in (self.etag, self.former_etag)


def as_named(header: Header, validators: Validators) -> Validators:
    """Return the validators for the response: with the tag that a request for the rest of a file names.

    Parts of a file can be put together only if they have the same one (section 15.3.7.3).
    """
    former = validators.former_etag
    for name in ("If-Range", "If-Match"):
        if former and ("", former) in _TAG.findall(header(name) or ""):
            return evolve(validators, etag=former)
    return validators


def failed_precondition(header: Header, validators: Validators) -> int | None:
    """Return the status that a GET or HEAD ends with at once, 412 or 304; None: go on (section 13.2.2)."""
    if _is_another(header, validators):
        return 412
    return 304 if _is_known(header, validators) else None


def requested_range(header: Header, validators: Validators, size: int) -> range | None:
    """Return the bytes that a GET requests; None: all of them; an empty range: the file has none of them (416).

    A header that can't be parsed is ignored, and so is a list of ranges: section 14.2 permits it, and no boot client
    sends one.
    """
    requested = _RANGE.fullmatch(header("Range") or "")
    if requested is None or not _is_current(header("If-Range"), validators):
        return None
    first, last = requested.groups()
    if not first:
        # A suffix range: the last bytes. A shorter file, even an empty one, is sent as a whole.
        count = int(last) if last else None
        return None if count is None else range(0) if count == 0 else range(max(0, size - count), size) or None
    if last and int(last) < int(first):
        return None
    return range(min(int(first), size), min(int(last) + 1, size) if last else size)


def http_date(seconds: int) -> str:
    """Format seconds since the epoch as in headers (section 5.6.7)."""
    return formatdate(seconds, usegmt=True)


def _is_another(header: Header, validators: Validators) -> bool:
    """Return whether the client resumes a file that has changed since (sections 13.1.1 and 13.1.4)."""
    match = header("If-Match")
    if match is not None:
        return not _names(match, validators, weak=False)
    since = _date(header("If-Unmodified-Since"))
    return since is not None and validators.modified is not None and validators.modified > since


def _is_known(header: Header, validators: Validators) -> bool:
    """Return whether the client already has this version (sections 13.1.2 and 13.1.3)."""
    match = header("If-None-Match")
    if match is not None:
        return _names(match, validators, weak=True)
    since = _date(header("If-Modified-Since"))
    return since is not None and validators.modified is not None and validators.modified <= since


def _names(text: str, validators: Validators, weak: bool) -> bool:
    """Return whether a list of entity tags has one of this version in it (section 8.8.3.2)."""
    if text.strip() == "*":
        return True
    return any(validators.has(tag) and (weak or not prefix) for prefix, tag in _TAG.findall(text))


def _is_current(condition: str | None, validators: Validators) -> bool:
    """Return whether If-Range holds (section 13.1.5): only a strong tag does, or the exact date that was sent."""
    if condition is None:
        return True
    if '"' in condition:
        return validators.has(condition.strip())
    return validators.modified is not None and _date(condition) == validators.modified


def _date(text: str | None) -> int | None:
    """Parse an HTTP date in any of its three forms; None when it is none."""
    try:
        parsed = parsedate_tz(text) if text is not None else None
        return None if parsed is None else calendar.timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
