"""DHCPv6 messages of real clients, rebuilt from captures of Debian 12's builds under QEMU 7.2."""

from attrs import evolve, frozen

from bootfw.wire.dhcp6 import Message, MessageType, Relay, pack
from bootfw.wire.options6 import (
    IdentityAssociation,
    Option,
    identity_association_bytes,
    strings_bytes,
    uint16s_bytes,
    vendor_class_bytes,
)

MAC = "52:54:00:12:34:56"
LINK_LOCAL = "fe80::5054:ff:fe12:3456"
UUID = "52420077-1234-4abc-9def-0123456789ab"
DUID_OF_EDK2 = bytes.fromhex("0004 77004252 3412 bc4a 9def 0123456789ab")
DUID_OF_IPXE = bytes.fromhex("0004 52420077 1234 4abc 9def 0123456789ab")
DUID_OF_LINUX = bytes.fromhex("0003 0001 525400123456")
XID = 0x123456


@frozen
class Client:
    """A DHCPv6 client; ``options`` are those that all of its messages have."""

    options: dict[int, bytes]
    iaid: int = 7

    def message(
        self, kind: MessageType = MessageType.SOLICIT, *more: tuple[int, bytes], ia: bytes | None = b""
    ) -> Message:
        """:param ia: the options in the identity association, as bytes; None: there is no association."""
        options = dict(self.options)
        if ia is not None:
            options[Option.IA_NA] = identity_association_bytes(IdentityAssociation(self.iaid)) + ia
        return Message(kind, XID, (*options.items(), *more))

    def changed(self, options: dict[int, bytes | None]) -> "Client":
        """The same with other options; None: without that one."""
        merged = {**self.options, **options}
        return evolve(self, options={code: value for code, value in merged.items() if value is not None})


def _edk2(kind: str, architecture: int) -> Client:
    return Client(
        {
            Option.ELAPSED_TIME: b"\0\0",
            Option.CLIENT_ID: DUID_OF_EDK2,
            Option.OPTION_REQUEST: uint16s_bytes([59, 60, 23, 16]),
            Option.NETWORK_INTERFACE: b"\1\3\0",
            Option.CLIENT_ARCHITECTURE: uint16s_bytes([architecture]),
            Option.VENDOR_CLASS: vendor_class_bytes(343, [f"{kind}:Arch:{architecture:05}:UNDI:003000".encode()]),
        }
    )


OVMF = _edk2("PXEClient", 7)
OVMF_HTTP = _edk2("HTTPClient", 16)
OVMF_IP_DRIVER = Client({Option.CLIENT_ID: DUID_OF_EDK2, Option.OPTION_REQUEST: uint16s_bytes([23])}, iaid=1)
"""The IP driver of the same firmware, which requests an address when router advertisements have the flag M."""
IPXE = Client(
    {
        Option.CLIENT_ID: DUID_OF_IPXE,
        Option.OPTION_REQUEST: uint16s_bytes([23, 24, 59, 60]),
        Option.USER_CLASS: strings_bytes([b"iPXE"]),
        Option.ELAPSED_TIME: b"\0\0",
    },
    iaid=0xCBF43926,
)
LINUX = Client({Option.CLIENT_ID: DUID_OF_LINUX, Option.OPTION_REQUEST: uint16s_bytes([23, 24])}, iaid=0x123456)


def relayed(message: Message, *relays: Relay) -> bytes:
    return pack(message, relays, MessageType.RELAY_FORWARD)
