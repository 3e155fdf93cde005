"""Client classes: options for the clients with a given vendor class or user class."""

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from bootfw.dhcp.identity import user_classes6, vendor_class6
from bootfw.dhcp.optionvalues import option_values, option_values6
from bootfw.wire import dhcp4, dhcp6
from bootfw.wire.options import Option, text_bytes, user_classes
from bootfw.wire.options6 import Values


@frozen(kw_only=True)
class ClientClass:
    """The condition of a class, the same for DHCPv4 and DHCPv6."""

    vendor_class: str = ""
    """What the client's vendor class (option 60, by DHCPv6 16) begins with, such as `"PXEClient"`."""
    user_class: str = ""
    """One of its user classes (option 77, by DHCPv6 15), such as `"iPXE"`. With both, both must hold."""

    _vendor_class: bytes = field(init=False, repr=False, eq=False)
    _user_class: bytes = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not (self.vendor_class or self.user_class):
            raise ValueError("needs vendor-class, user-class or both")
        object.__setattr__(self, "_vendor_class", text_bytes(self.vendor_class))
        object.__setattr__(self, "_user_class", text_bytes(self.user_class))


@frozen(kw_only=True)
class HostClass(ClientClass):
    """``[[dhcp.class]]``"""

    options: Mapping[int, bytes] = field(
        factory=dict, converter=option_values, hash=False, metadata={"toml": dict[str, Any]}
    )
    """Options by name or number, over those of the subnet."""

    def matches(self, message: dhcp4.Message) -> bool:
        """Return whether the sender of *message* is in this class."""
        options = message.options
        return options.get(Option.VENDOR_CLASS_IDENTIFIER, b"").startswith(self._vendor_class) and (
            not self._user_class or self._user_class in user_classes(options.get(Option.USER_CLASS, b""))
        )


@frozen(kw_only=True)
class HostClass6(ClientClass):
    """``[[dhcp6.class]]``"""

    options: Values = field(factory=dict, converter=option_values6, hash=False, metadata={"toml": dict[str, Any]})
    """Options by name or number, over those of the subnet."""

    def matches(self, message: dhcp6.Message) -> bool:
        """Return whether the sender of *message* is in this class."""
        return vendor_class6(message).startswith(self._vendor_class) and (
            not self._user_class or self._user_class in user_classes6(message)
        )
