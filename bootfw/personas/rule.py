"""One persona, as a table of stock.toml or of the configuration: its conditions, and how the client is treated."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, Literal

import attrs
from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.personas.fingerprint import Fingerprint
from bootfw.values import Client, OfferStyle, Option43, Persona, TFTPQuirks
from bootfw.wire.iana import ARCHITECTURES, NETWORK_GEAR
from bootfw.wire.options import Option

_TFTP_SERVER_OPTIONS = (Option.TFTP_SERVER_NAME, Option.TFTP_SERVER_ADDRESS)

_OF_DHCP = (
    "user_class",
    "requested",
    "boot_file_requested",
    "dhcp_version",
    "reason",
    "option_43",
    "architecture",
    "tftp_server_options",
    "takes_offer",
)
"""Fields that have no effect without an offer."""


def _ouis(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_oui, values))


def _oui(value: str) -> str:
    digits = re.sub("[:.-]", "", value).lower()
    if not re.fullmatch("(?:[0-9a-f]{2}){1,6}", digits):
        raise ValueError(f'must be the beginning of a MAC address, such as "b8:27:eb", not "{value}"')
    return bytes.fromhex(digits).hex(":")


def _architectures(values: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_architecture, values))


def _architecture(value: str) -> str:
    known = {*ARCHITECTURES.values(), NETWORK_GEAR, "unknown", ""}
    if value not in known and not re.fullmatch(r"arch-\d{1,5}", value):
        raise ValueError(f'"{value}" is no architecture; they are listed in bootfw/wire/iana.py')
    return value


def _codes(values: Iterable[int]) -> frozenset[int]:
    codes = frozenset(values)
    for code in codes:
        if not 0 < code < 255:
            raise ValueError(f"{code} is no code of a DHCP option")
    return codes


def _ports(values: Iterable[int]) -> frozenset[int]:
    ports = frozenset(values)
    for port in ports:
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no UDP port; those are from 1 to 65535")
    return ports


def _server_options(values: Iterable[int]) -> tuple[int, ...]:
    codes = tuple(values)
    for code in codes:
        if code not in _TFTP_SERVER_OPTIONS:
            raise ValueError(f"{code} names no TFTP server; 66 and 150 do")
    return codes


def _fingerprint(values: Iterable[str] | Fingerprint | None) -> Fingerprint | None:
    return values if values is None or isinstance(values, Fingerprint) else Fingerprint.read(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    """What attrs makes of the field's argument; `converter=tuple` would have type checkers refuse a list."""
    return tuple(values)


def _lower(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value.lower() for value in values)


def _instead(value: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    return {pattern: tuple(paths) for pattern, paths in value.items()}


def _offer(value: str | OfferStyle | None) -> OfferStyle | None:
    return None if value is None else OfferStyle(value)


def _option_43(value: str | Option43 | None) -> Option43 | None:
    return None if value is None else Option43(value)


def _at_least(least: int, most: int) -> Any:
    def check(instance: Any, attribute: Any, value: int | None) -> None:
        if value is not None and not least <= value <= most:
            raise ValueError(f"must be from {least} to {most}, not {value}")

    return check


def _named(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value):
        raise ValueError(f'must be a word of lowercase letters, digits and dashes, not "{value}"')


@frozen(kw_only=True)
class Rule:
    """``[[persona]]``: the conditions, which all have to hold, and the treatment."""

    name: str = field(validator=_named)
    """Its name in the log and for resolvers. A rule with the name of a built-in one replaces it; others are tried
    before the built-in ones, in this order."""
    like: str = ""
    """The name of another persona, or of the built-in one that this replaces. Keys that are left out here are copied
    from it, conditions too."""

    # Conditions, by DHCP.
    vendor_class: str = ""
    """The vendor class (option 60) begins with it, such as `"PXEClient"`."""
    architectures: frozenset[str] = field(default=frozenset(), converter=_architectures, metadata={"toml": list[str]})
    """Its architecture is one of them; `"unknown"`: it does not say. Empty: any."""
    user_class: str = ""
    """One of its user classes (option 77), such as `"iPXE"`."""
    oui: tuple[str, ...] = field(default=(), converter=_ouis, metadata={"toml": list[str]})
    """Its MAC address begins with one of them, such as `"b8:27:eb"`."""
    requested: frozenset[int] = field(default=frozenset(), converter=_codes, metadata={"toml": list[int]})
    """Options that it requests (option 55), all of them, in any order."""
    boot_file_requested: bool | None = None
    """It requests option 66 or 67 (in option 55; by DHCPv6 59), or speaks BOOTP; or it does neither. With `true` it may
    be an installed system: `loop-breaker` does not count it, and no resolver chooses a file for it when it renews its
    lease, or when option 67 (59) is configured for it. Left out: not checked."""
    ipxe: bool | None = None
    """The client is iPXE, or is not. Left out: not checked."""
    dhcp_version: int | None = field(default=None, validator=_at_least(4, 6))
    """The version of DHCP that it uses, 4 or 6. Left out: either."""

    # Conditions, by TFTP.
    tftp_options: Fingerprint | None = field(default=None, converter=_fingerprint, metadata={"toml": list[str]})
    """The options of its requests by TFTP are one of these: names, with the value where it matters, such as
    `"tsize blksize=1468 windowsize=4"`. In another order they are the same, unless a persona that is known by its
    options alone lists that order. `""`: it requests none; `"... msftwindow"`: this one, among others."""
    tftp_files: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Patterns for the name of the file, of which one matches; `"*"` stands for slashes, too. The name is as the client
    writes it, but without slashes in front, and with U+FFFD for a byte that is not text."""
    tftp_ports: frozenset[int] = field(default=frozenset(), converter=_ports, metadata={"toml": list[int]})
    """It sends its requests from one of these UDP ports. Empty: any."""
    personas: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Its persona by DHCP was one of these; only for rules without `offer`."""

    # Treatment, by DHCP.
    offer: OfferStyle | None = field(
        default=None, converter=_offer, metadata={"toml": Literal["file", "boot-server", "none"]}
    )
    """Where it gets the name of its boot file. `"file"`: in the offer. `"boot-server"`: a proxy's offer names port 4011
    and the client requests it there. `"none"`: a proxy does not answer it. Left out: it is recognized by TFTP only."""
    option_43: Option43 | None = field(
        default=None,
        converter=_option_43,
        metadata={"toml": Literal["none", "use-boot-file", "menu", "raspberry-pi", "raspberry-pi-3"]},
    )
    """Option 43 beside the file. `"none"`: nothing. `"use-boot-file"`: discovery control 8, load it at
    once. `"menu"`: the menu of a `pxe-menu` resolver; beside a file as `"use-boot-file"`. `"raspberry-pi"` and
    `"raspberry-pi-3"`: what these expect."""
    reason: str = ""
    """With `offer = "none"`: why, for the log."""
    architecture: str = field(default="", converter=_architecture)
    """The architecture that resolvers see, whatever it sends, such as `"arm-rpiboot"`."""
    tftp_server_options: tuple[int, ...] = field(default=(), converter=_server_options, metadata={"toml": list[int]})
    """Options that repeat the TFTP server: 66, 150."""
    takes_offer: bool | None = None
    """It uses the address of an OFFER and sends no REQUEST for it: where bootfw gives the addresses, the OFFER counts
    as a lease of `firmware-lease-seconds`."""

    # Treatment, by TFTP.
    refuse_options: frozenset[str] = field(default=frozenset(), converter=_lower, metadata={"toml": list[str]})
    """TFTP options that it must not get, such as `"blksize"` for a ROM that requests it and can't handle it."""
    max_blksize: int | None = field(default=None, validator=_at_least(8, 65464))
    """Bytes in a block, 8 to 65464, where `tftp.max-blksize` is too much for it."""
    max_windowsize: int | None = field(default=None, validator=_at_least(1, 65535))
    """Blocks in flight, 1 to 65535, where `tftp.max-windowsize` is too much for it."""
    empty_when_missing: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Patterns of files that are sent empty to it where they are missing; other missing files are an error."""
    instead: Mapping[str, tuple[str, ...]] = field(
        factory=dict, converter=_instead, hash=False, metadata={"toml": dict[str, list[str]]}
    )
    """Pattern: what to try, in this order, when such a file is missing. `{name}` is its last part, `{path}` all."""
    ignore_case: bool | None = None
    """Where a file is missing, it gets one whose name differs in upper and lower case."""
    cut_names: bool | None = None
    """Where a file is missing, its name is tried up to the first byte that is no text (control characters, and what is
    not UTF-8), and without the byte before it: there the ROM has read on into the next DHCP option."""
    oack_once: bool | None = None
    """A second OACK makes it give up: the OACK is sent again when it repeats its request. The timer sends it again only
    once, after 12 s or 2.4 times the `timeout` that it requests: later than two turns of its own timer."""

    source: str = ""
    """Where the quirk was seen, for the next reader of the configuration."""

    def __attrs_post_init__(self) -> None:
        if self.like:
            return  # Checks of the whole rule are in check(), since over() fills in fields first.
        self.check()

    def check(self) -> None:
        """:raise ConfigError: the parts don't fit together."""
        if self.offer is None:
            for name in _OF_DHCP:
                if getattr(self, name):
                    key = name.replace("_", "-")
                    raise ConfigError('is of no use without "offer"', (key,))
            if not self._has_conditions():
                raise ConfigError("has no condition, and would match every client", ())
            return
        if self.personas:
            raise ConfigError('is only for what is recognized by TFTP, without "offer"', ("personas",))
        if (self.offer is OfferStyle.NONE) != bool(self.reason):
            raise ConfigError('must be there with offer = "none", and only there', ("reason",))
        if self.option_43 not in (None, Option43.NONE, Option43.MENU) and self.offer is not OfferStyle.FILE:
            raise ConfigError('goes with offer = "file": it speaks of the file there', ("option-43",))
        if not (
            self.vendor_class
            or self.user_class
            or self.requested
            or self.boot_file_requested
            or self.architectures - {"unknown"}
        ):
            what = "vendor-class, user-class, requested, boot-file-requested or architectures"
            raise ConfigError(f"needs {what}: else every system of such a machine is offered a boot file", ("offer",))

    def _has_conditions(self) -> bool:
        return bool(
            self.vendor_class
            or self.architectures
            or self.oui
            or self.personas
            or self.tftp_files
            or self.tftp_ports
            or self.ipxe is not None
            or self.tftp_options is not None
        )

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults, ``name`` first, without ``like``, which over() has applied."""
        default = Rule(name=self.name, like="?")
        values = {a.name: getattr(self, a.name) for a in attrs.fields(Rule) if a.name != "like"}
        return {name: value for name, value in values.items() if name == "name" or value != getattr(default, name)}

    def over(self, base: "Rule") -> "Rule":
        """This rule with the fields that are not given taken from *base*.

        :raise ConfigError: the parts don't fit together.
        """
        given = {**self.given(), "like": self.like}
        if "offer" in given and given["offer"] is not base.offer:
            # These fields belong to the offer of *base*.
            given = {"reason": "", "option_43": None} | given
        merged = attrs.evolve(base, **given)
        merged.check()
        return merged

    @property
    def files(self) -> "re.Pattern[str] | None":
        """The pattern that the file name has to match; None: any name matches."""
        return re.compile("|".join(map(translate, self.tftp_files))) if self.tftp_files else None

    @property
    def needs_client(self) -> bool:
        """Whether the rule depends on the client of a TFTP request, and not on the request alone."""
        return self.offer is not None or bool(
            self.vendor_class or self.architectures or self.oui or self.personas or self.ipxe is not None
        )

    def is_client(self, client: Client) -> bool:
        """Whether the client of a TFTP request is of this kind."""
        if self.offer is not None:
            return client.persona == self.name
        return (
            (not self.personas or client.persona in self.personas)
            and client.vendor_class.startswith(self.vendor_class)
            and (not self.architectures or client.architecture in self.architectures)
            and (self.ipxe is None or self.ipxe == client.ipxe)
            and (not self.oui or client.mac.startswith(self.oui))
        )

    @property
    def persona(self) -> Persona:
        """How DHCP treats it; the rule has an ``offer``."""
        assert self.offer is not None
        return Persona(
            self.name,
            self.offer,
            self.option_43 or Option43.NONE,
            self.reason,
            self.architecture,
            self.tftp_server_options,
            bool(self.takes_offer),
            bool(self.boot_file_requested),
        )

    @property
    def quirks(self) -> TFTPQuirks | None:
        """How its transfers differ from the usual; None: not at all."""
        quirks = TFTPQuirks(
            self.refuse_options,
            self.max_blksize,
            self.max_windowsize,
            self.empty_when_missing,
            self.instead,
            bool(self.ignore_case),
            bool(self.cut_names),
            bool(self.oack_once),
            self.name,
        )
        return None if quirks == TFTPQuirks() else quirks
