"""Kinds of clients that are told options of their own."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from bootfw.config.optionspelling import option_values
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import Message
from bootfw.wire.options import Option


@frozen(kw_only=True)
class ClientClass:
    """What clients of a kind say of themselves, by DHCPv4 or DHCPv6."""

    vendor_class: str = ""
    """What the client's vendor class (option 60, by DHCPv6 16) begins with, such as `"PXEClient"`."""
    user_class: str = ""
    """One of its user classes (option 77, by DHCPv6 15), such as `"iPXE"`. With both, both must hold."""

    _vendor_class: bytes = field(init=False, repr=False, eq=False)
    _user_class: bytes = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not (self.vendor_class or self.user_class):
            raise ValueError("needs vendor-class, user-class or both")
        object.__setattr__(self, "_vendor_class", codec.text_bytes(self.vendor_class))
        object.__setattr__(self, "_user_class", codec.text_bytes(self.user_class))


@frozen(kw_only=True)
class HostClass(ClientClass):
    """``[[dhcp.class]]``"""

    options: Mapping[int, bytes] = field(
        factory=dict, converter=option_values, hash=False, metadata={"toml": dict[str, Any]}
    )
    """Options by name or number, over those of the subnet."""

    def has(self, message: Message) -> bool:
        """Whether the sender is of this class."""
        options = message.options
        if not options.get(Option.VENDOR_CLASS_IDENTIFIER, b"").startswith(self._vendor_class):
            return False
        return not self._user_class or self._user_class in codec.user_classes(options.get(Option.USER_CLASS, b""))
