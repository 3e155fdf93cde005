"""Which options a reply has room for, and which of them are left out first."""

from collections.abc import Mapping

from bootfw.wire.dhcp4 import Message, option_size
from bootfw.wire.options import Option

_BESIDE_OPTIONS = 241
"""Bytes of the header and of the END."""

_NEEDED, _LAST, _REQUESTED, _OTHERS = 0, 1, 4, 5
"""Ranks: a client needs the first; the second are left out only when no other option is left."""

_RANKS: Mapping[int, int] = {
    Option.LEASE_TIME: _NEEDED,
    Option.SUBNET_MASK: _NEEDED,
    Option.RAPID_COMMIT: _NEEDED,
    # Most clients don't look for it, but RFC 6842 lets them drop a reply without it.
    Option.CLIENT_IDENTIFIER: _LAST,
    Option.CLIENT_MACHINE_IDENTIFIER: 2,
    Option.MESSAGE: 2,
    Option.ROUTER: 3,
}


def fit(options: dict[int, bytes], message: Message, size: int, configured: Mapping[int, bytes] | None = None) -> None:
    """Add *configured* to the *options* of the reply to *message*, and leave out what there is no room for.

    Configured options that are not requested are left out first, an echoed option 61 last. Other *options* stay: the
    reply is of no use without them. Option 82 is never dropped (RFC 3046 section 2.2).

    :param size: bytes of the reply, see reply_size().
    """
    configured = configured or {}
    room = size - _BESIDE_OPTIONS
    length = sum(map(len, options.values())) + sum(map(len, configured.values()))
    # Two bytes for each, two for each full 255, and a pad: when that fits at the most, nothing has to be counted.
    if length + 2 * (len(options) + len(configured)) + length // 127 + 1 <= room:
        options |= configured
        return
    requested = message.options.get(Option.PARAMETER_REQUEST_LIST, b"")
    ranked = [(_RANKS.get(code, _NEEDED), code, value) for code, value in options.items() if code not in configured]
    ranked += [
        (_RANKS.get(code, _REQUESTED if code in requested else _OTHERS), code, value)
        for code, value in configured.items()
    ]
    options.clear()
    for rank, code, value in sorted(ranked, key=lambda entry: entry[0]):
        size = option_size(code, value)
        if rank == _NEEDED or size <= room:
            room -= size
            options[code] = value
