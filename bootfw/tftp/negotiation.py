"""Which options a transfer runs with (RFC 2347, 2348, 2349, 7440)."""

from collections.abc import Iterable

from attrs import evolve, frozen

from bootfw.values import Agreed, Mode
from bootfw.wire.tftp import Options

MAX_DIGITS = 20
"""The digits of 2**64 - 1; longer numbers are ignored."""


@frozen
class Limits:
    """The limits of the server: its settings, and the MTU of the client's network."""

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
    """Accept or leave out each option that the client requests, in its order and spelling.

    An option that is unknown, malformed or out of range is left out of the OACK, as RFC 2347 has it. With
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
        requested = _decimal(text)
        if requested is None:
            continue
        answer: int | None = None
        if name == "blksize" and 8 <= requested <= 65464:
            answer = min(requested, limits.max_blksize)
        elif name == "timeout" and 1 <= requested <= 255:
            answer = requested
        elif name == "tsize" and not netascii:
            # In netascii the bytes on the wire are not those of the file. In a read request the number has no
            # meaning, it requests the size; in a write request it announces it.
            # curl 7.88 reports an illegal operation for an acknowledged 0, so an empty file gets no tsize.
            answer = requested if write else size or None
        elif name == "windowsize" and 1 <= requested <= 65535 and not netascii:
            # Where a translated block begins in the file is known only while reading on from the block before it, so
            # a netascii window can't be sent again from its middle.
            answer = min(requested, limits.max_windowsize)
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
    """Return *agreed* without the client's ``timeout`` in the OACK, for a watchdog that does not wait that long.

    RFC 2349: the server may leave the option out; it may not acknowledge another value.
    """
    acknowledged = tuple(option for option in agreed.acknowledged if option[0].lower() != "timeout")
    return evolve(agreed, acknowledged=acknowledged)


def without_windows(request_options: Options) -> Options:
    """Return *request_options* without ``windowsize``, which has no meaning in a transfer to a group."""
    return tuple(option for option in request_options if option[0].lower() != "windowsize")


def with_multicast(agreed: Agreed, request_options: Options, value: str) -> Agreed:
    """Return *agreed* with the option of RFC 2090 in the OACK, at the place where the client has named it.

    :param value: ``addr,port,mc``.
    """
    acknowledged = dict(agreed.acknowledged)
    in_order = ((name, value if name.lower() == "multicast" else acknowledged.get(name)) for name, _ in request_options)
    return evolve(agreed, acknowledged=tuple((name, text) for name, text in in_order if text is not None))


def _decimal(text: str) -> int | None:
    """Return the number that ASCII digits stand for; None: it is something else."""
    # int() alone would take "-1", "1_0", " 7" and the digits of other scripts.
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    return None
