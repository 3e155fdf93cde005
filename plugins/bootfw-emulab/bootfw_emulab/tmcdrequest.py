"""The request line of tmcd: tags such as ``VERSION=34``, a command, and its argument, separated by blanks."""

import ipaddress
import re

from attrs import define, frozen

LONGEST = 16383
"""Bytes of a request by TCP."""

LONGEST_DATAGRAM = 2047
"""Bytes of a request by UDP."""

OLDEST_VERSION = 2
"""The version of a client that does not send one."""

_BLANKS = " \t\r\n"
_TAGS = {
    "PRIVKEY": re.compile(r"[0-9A-Fa-f]{16,128}"),
    "IDKEY": re.compile(r"[0-9A-Za-z]+"),
    "VERSION": re.compile(r"[0-9]{1,6}"),
    "VNODEID": re.compile(r"[0-9A-Za-z_-]{1,30}"),
    "REDIRECT": re.compile(r"[0-9.]{7,15}"),
}


@frozen
class TmcdRequest:
    """A request of a node."""

    word: str
    """The command, as the client wrote it."""
    argument: str = ""
    version: int = OLDEST_VERSION
    private_key: str = ""
    identity_key: str = ""
    virtual_node: str = ""
    """The name of the virtual node that it is for; "": it is for the machine itself."""
    redirected: str = ""
    """IPv4 address of the node, in a request that another server has passed on; "": that of the peer."""


@define
class _Tags:
    """The tags of a line."""

    PRIVKEY: str = ""
    IDKEY: str = ""
    VERSION: str = str(OLDEST_VERSION)
    VNODEID: str = ""
    REDIRECT: str = ""


def parse(line: bytes) -> TmcdRequest | None:
    """Parse a request; None: there is no command, or a tag has an invalid value. Such a request gets no reply."""
    rest = line.decode("latin-1").partition("\0")[0].lstrip(_BLANKS)
    tags = _Tags()
    while rest:
        word, rest = _split(rest)
        tag, equals, value = word.partition("=")
        if not equals or tag not in _TAGS:
            return _request(word, rest, tags)
        if not _TAGS[tag].fullmatch(value):
            return None
        setattr(tags, tag, value)
    return None


def _split(text: str) -> tuple[str, str]:
    """Return (the first word, the text after it)."""
    end = next((number for number, character in enumerate(text) if character in _BLANKS), len(text))
    return text[:end], text[end:].lstrip(_BLANKS)


def _request(word: str, argument: str, tags: _Tags) -> TmcdRequest | None:
    if tags.REDIRECT:
        try:
            ipaddress.IPv4Address(tags.REDIRECT)
        except ValueError:
            return None
    return TmcdRequest(
        word,
        argument.rstrip(_BLANKS),
        int(tags.VERSION),
        tags.PRIVKEY.lower(),
        tags.IDKEY,
        tags.VNODEID,
        tags.REDIRECT,
    )
