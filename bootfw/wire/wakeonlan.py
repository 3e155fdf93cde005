"""The magic packet of Wake-on-LAN (AMD, publication 20213, Magic Packet Technology).

A network card that is armed looks for these bytes anywhere in a frame, so they may travel in any protocol; UDP to the
port "discard" is usual.
"""

PORT = 9
"""The UDP port "discard" (RFC 863)."""

PASSWORD_LENGTHS = (0, 4, 6)
"""Bytes of a SecureOn password; 0: there is none."""


def magic_packet(mac: bytes, password: bytes = b"") -> bytes:
    """Return the magic packet for a network card.

    :param mac: its address, 6 bytes.
    :param password: the SecureOn password that the card is armed with.
    :raise ValueError: one of them has another length.
    """
    if len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    if len(password) not in PASSWORD_LENGTHS:
        raise ValueError(f"a SecureOn password has 4 or 6 bytes, not {len(password)}")
    return b"\xff" * 6 + mac * 16 + password
