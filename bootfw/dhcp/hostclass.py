"""Client classes: options, and addresses, for the clients that fulfil a condition."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from bootfw.dhcp.identity import user_classes6, vendor_class6
from bootfw.dhcp.optionvalues import option_values, option_values6
from bootfw.dhcp.ranges import Range, convert_all, ranges4, ranges6
from bootfw.lease import mac_beginning
from bootfw.wire import dhcp4, dhcp6
from bootfw.wire.options import Option, text_bytes, user_classes
from bootfw.wire.options6 import Values


def _mac_beginnings(values: Iterable[str]) -> tuple[str, ...]:
    return convert_all(mac_beginning, values)


@frozen(kw_only=True)
class ClientClass:
    """The conditions of a class, the same for DHCPv4 and DHCPv6; all that are given must hold."""

    vendor_class: str = ""
    """What the client's vendor class (option 60, by DHCPv6 16) begins with, such as `"PXEClient"`."""
    user_class: str = ""
    """One of its user classes (option 77, by DHCPv6 15), such as `"iPXE"`. Of several conditions all must hold."""
    mac: tuple[str, ...] = field(default=(), converter=_mac_beginnings, metadata={"toml": list[str]})
    """Its hardware address is or begins with one of these, such as `["52:54:00", "02:00:00:00:00:07"]`."""
    known: bool | None = None
    """True: it has a host or a reservation, with an address or without one. False: it has none. Default: not
    checked."""
    pool: tuple[Range, ...] = ()

    _vendor_class: bytes = field(init=False, repr=False, eq=False)
    _user_class: bytes = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if not (self.vendor_class or self.user_class or self.mac or self.known is not None):
            raise ValueError("needs at least one of vendor-class, user-class, mac, known")
        object.__setattr__(self, "_vendor_class", text_bytes(self.vendor_class))
        object.__setattr__(self, "_user_class", text_bytes(self.user_class))

    def __str__(self) -> str:
        conditions = {"vendor-class": self.vendor_class, "user-class": self.user_class, "mac": ", ".join(self.mac)}
        parts = [f"{key} {value}" for key, value in conditions.items() if value]
        if self.known is not None:
            parts.append("known clients" if self.known else "unknown clients")
        return ", ".join(parts)

    def _is_of(self, mac: str, known: bool) -> bool:
        """Return whether the conditions hold that are not about options."""
        return (not self.mac or mac.startswith(self.mac)) and self.known in (None, known)


@frozen(kw_only=True)
class HostClass(ClientClass):
    """``[[dhcp.class]]``"""

    pool: tuple[Range, ...] = field(default=(), converter=ranges4, metadata={"toml": list[str]})
    """Addresses that only its clients get, such as `["10.77.0.200-10.77.0.220"]`, in the network of a subnet; in its
    `pool` or not. Its clients get others of the subnet when none of these is free."""
    options: Mapping[int, bytes] = field(
        factory=dict, converter=option_values, hash=False, metadata={"toml": dict[str, Any]}
    )
    """Options by name or number, over those of the subnet."""

    def matches(self, message: dhcp4.Message, mac: str, known: bool) -> bool:
        """Return whether the sender of *message* is in this class.

        :param mac: its hardware address.
        :param known: it has a reservation.
        """
        options = message.options
        return (
            options.get(Option.VENDOR_CLASS_IDENTIFIER, b"").startswith(self._vendor_class)
            and (not self._user_class or self._user_class in user_classes(options.get(Option.USER_CLASS, b"")))
            and self._is_of(mac, known)
        )


@frozen(kw_only=True)
class HostClass6(ClientClass):
    """``[[dhcp6.class]]``"""

    pool: tuple[Range, ...] = field(default=(), converter=ranges6, metadata={"toml": list[str]})
    """Addresses that only its clients get, such as `["fd77::2000-fd77::2fff"]`, in the network of a subnet; in its
    `pool` or not. Its clients get others of the subnet when none of these is free."""
    options: Values = field(factory=dict, converter=option_values6, hash=False, metadata={"toml": dict[str, Any]})
    """Options by name or number, over those of the subnet."""

    def matches(self, message: dhcp6.Message, mac: str, known: bool) -> bool:
        """Return whether the sender of *message* is in this class; see HostClass."""
        return (
            vendor_class6(message).startswith(self._vendor_class)
            and (not self._user_class or self._user_class in user_classes6(message))
            and self._is_of(mac, known)
        )
