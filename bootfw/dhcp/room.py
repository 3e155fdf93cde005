"""How many options a reply has room for, and which of them go first when there is too little."""

from collections.abc import Mapping

from bootfw.wire.dhcp4 import Message, option_size, reply_size
from bootfw.wire.options import Option

_BESIDE_OPTIONS = 241
"""Bytes of the header and of the END."""

_NEEDED, _LAST, _ASKED, _OTHERS = 0, 1, 4, 5
"""A client can't do without the first; the second are dropped only when nothing else is left."""

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


def fit(options: dict[int, bytes], message: Message, configured: Mapping[int, bytes] | None = None) -> None:
    """Add *configured* to the *options* of the reply to *message*, and leave out what there is no room for.

    What was configured and is not requested goes first, an echoed option 61 last. What else is in *options* stays: the
    reply is of no use without it. Option 82 is never dropped (RFC 3046 section 2.2).
    """
    configured = configured or {}
    room = reply_size(message) - _BESIDE_OPTIONS
    length = sum(map(len, options.values())) + sum(map(len, configured.values()))
    # Two bytes for each, two for each full 255, and a pad: when that fits at the most, nothing has to be counted.
    if length + 2 * (len(options) + len(configured)) + length // 127 + 1 <= room:
        options |= configured
        return
    requested = message.options.get(Option.PARAMETER_REQUEST_LIST, b"")
    ranked = [(_RANKS.get(code, _NEEDED), code, value) for code, value in options.items() if code not in configured]
    ranked += [
        (_RANKS.get(code, _ASKED if code in requested else _OTHERS), code, value) for code, value in configured.items()
    ]
    options.clear()
    for rank, code, value in sorted(ranked, key=lambda entry: entry[0]):
        size = option_size(code, value)
        if rank == _NEEDED or size <= room:
            room -= size
            options[code] = value
