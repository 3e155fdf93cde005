"""Which options a transfer runs with (RFC 2347, 2348, 2349, 7440)."""

from collections.abc import Iterable

from attrs import evolve, frozen

from bootfw.values import Agreed, Mode

MAX_DIGITS = 20
"""A number with more digits than 2**64 - 1 has is no size that any client could mean."""


@frozen
class Limits:
    """What we are willing to run with: the settings, and what the client's network can carry."""

    max_blksize: int
    """Bytes."""
    max_windowsize: int
    """Blocks."""


def negotiate(
    request_options: Iterable[tuple[str, str]],
    *,
    write: bool,
    mode: Mode,
    size: int | None,
    limits: Limits,
) -> Agreed:
    """Answer what the client asks, in its order and spelling and nothing else.

    An option that is unknown, malformed or out of range is left out of the OACK, which is how RFC 2347 says no. With
    nothing acknowledged there is no OACK at all: the transfer starts with DATA 1 or ACK 0.

    :param size: bytes of the file that is read, None when it can't be known; of no meaning for a write.
    """
    netascii = mode is Mode.NETASCII
    seen: set[str] = set()
    agreed: dict[str, int] = {}
    acknowledged: list[tuple[str, str]] = []
    for spelling, text in request_options:
        name = spelling.lower()
        if name in seen:
            continue
        seen.add(name)
        asked = _decimal(text)
        if asked is None:
            continue
        answer: int | None = None
        if name == "blksize" and 8 <= asked <= 65464:
            answer = min(asked, limits.max_blksize)
        elif name == "timeout" and 1 <= asked <= 255:
            answer = asked
        elif name == "tsize" and not netascii:
            # In netascii the bytes on the wire are not those of the file. A reader sends "0"; whatever number
            # it sends, it asks. A writer says what it will send.
            # curl 7.88 takes an acknowledged 0 for an illegal operation, so an empty file's size is not told.
            answer = asked if write else size or None
        elif name == "windowsize" and 1 <= asked <= 65535 and not netascii:
            # The place of a translated block is only known while reading on from the one before it, so a
            # netascii window can't be sent again from its middle.
            answer = min(asked, limits.max_windowsize)
        if answer is not None:
            agreed[name] = answer
            acknowledged.append((spelling, str(answer)))
    return Agreed(
        blksize=agreed.get("blksize", 512),
        windowsize=agreed.get("windowsize", 1),
        timeout=agreed.get("timeout"),
        tsize=agreed.get("tsize"),
        acknowledged=tuple(acknowledged),
    )


def without_timeout(agreed: Agreed) -> Agreed:
    """*agreed* with the client's ``timeout`` left out of the OACK, for a server that does not wait that long.

    RFC 2349: the server may leave the option out; it may not acknowledge another value.
    """
    kept = tuple(option for option in agreed.acknowledged if option[0].lower() != "timeout")
    return evolve(agreed, acknowledged=kept)


def _decimal(text: str) -> int | None:
    """ASCII digits and nothing else: int() alone would take "-1", "1_0", " 7" and the digits of other scripts."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    return None
