"""Kinds of clients that are told options of their own by DHCPv6."""

from typing import Any

from attrs import field, frozen

from bootfw.config.optionspelling import option_values6
from bootfw.dhcp.hostclass import ClientClass
from bootfw.dhcp.identity6 import user_classes, vendor_class
from bootfw.wire.dhcp6 import Message
from bootfw.wire.options6 import Values


@frozen(kw_only=True)
class HostClass6(ClientClass):
    """``[[dhcp6.class]]``"""

    options: Values = field(factory=dict, converter=option_values6, hash=False, metadata={"toml": dict[str, Any]})
    """Options by name or number, over those of the subnet."""

    def has(self, message: Message) -> bool:
        """Whether the sender is of this class."""
        if not vendor_class(message).startswith(self._vendor_class):
            return False
        return not self._user_class or self._user_class in user_classes(message)
