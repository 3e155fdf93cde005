"""Fit the options of a reply into its size: choose which options are left out first."""

from collections.abc import Mapping

from bootfw.wire.dhcp4 import Message, option_size
from bootfw.wire.options import Option

_BESIDE_OPTIONS = 241
"""Bytes of the header and of the END option."""

_NEEDED, _LAST, _REQUESTED, _NOT_REQUESTED = 0, 1, 4, 5
"""Ranks: _NEEDED options are always sent; of the others those with the highest rank are left out first."""

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


def fit_options(
    options: dict[int, bytes], message: Message, size: int, configured: Mapping[int, bytes] | None = None
) -> None:
    """Add *configured* to the *options* of the reply to *message*, and remove those that there is no room for.

    Configured options that the client does not request are left out first, an echoed option 61 last. Other *options*
    stay, since the client can't use the reply without them. Option 82 is never dropped (RFC 3046 section 2.2).

    :param size: bytes of the reply; see reply_size().
    """
    configured = configured or {}
    room = size - _BESIDE_OPTIONS
    length = sum(map(len, options.values())) + sum(map(len, configured.values()))
    # Upper bound: a header of two bytes for each option and for each further 255 bytes of a split one (RFC 3396), and a
    # pad. If it fits, the exact sizes need not be computed: almost every reply ends here.
    if length + 2 * (len(options) + len(configured)) + length // 127 + 1 <= room:
        options |= configured
        return
    requested = message.options.get(Option.PARAMETER_REQUEST_LIST, b"")
    ranked = [(_RANKS.get(code, _NEEDED), code, value) for code, value in options.items() if code not in configured]
    ranked += [
        (_RANKS.get(code, _REQUESTED if code in requested else _NOT_REQUESTED), code, value)
        for code, value in configured.items()
    ]
    options.clear()
    for rank, code, value in sorted(ranked, key=lambda entry: entry[0]):
        size = option_size(code, value)
        if rank == _NEEDED or size <= room:
            room -= size
            options[code] = value
