"""A persona, as a table of stock.toml or of the configuration: the conditions, and the treatment of the client."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any, Literal

import attrs
from attrs import field, frozen

from bootfw.errors import ConfigError
from bootfw.lease import mac_beginning
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
"""Fields that have no effect without ``offer``."""


def _ouis(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(mac_beginning, values))


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
    """Convert the argument to a tuple; with `converter=tuple` type checkers would refuse a list."""
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


def _check_name(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value):
        raise ValueError(f'must be a word of lowercase letters, digits and dashes, not "{value}"')


@frozen(kw_only=True)
class Rule:
    """``[[persona]]``: conditions, which all have to hold, and the treatment of a client that matches."""

    name: str = field(validator=_check_name)
    """The name in the log and for resolvers. A persona with the name of a built-in one replaces it; others are tried
    before the built-in ones, in the order of the configuration."""
    like: str = ""
    """The name of another persona, or of the built-in one that is replaced. Keys that are not given are copied from it,
    conditions too."""

    # Conditions on DHCP
    vendor_class: str = ""
    """The vendor class (option 60) begins with this text, such as `"PXEClient"`."""
    architectures: frozenset[str] = field(default=frozenset(), converter=_architectures, metadata={"toml": list[str]})
    """The client's architecture is one of these; `"unknown"`: the client sends none. Empty: any."""
    user_class: str = ""
    """One of the client's user classes (option 77) is this text, such as `"iPXE"`."""
    oui: tuple[str, ...] = field(default=(), converter=_ouis, metadata={"toml": list[str]})
    """The client's MAC address begins with one of these, such as `"b8:27:eb"`."""
    requested: frozenset[int] = field(default=frozenset(), converter=_codes, metadata={"toml": list[int]})
    """The client requests all of these options (option 55), in any order."""
    boot_file_requested: bool | None = None
    """True: the client requests option 66 or 67 (in option 55; by DHCPv6 59), or uses BOOTP. False: it does neither.
    With `true` it may be an installed system: `loop-breaker` does not count it, and no resolver chooses a file for it
    when it renews its lease, or when option 67 (59) is configured for it. Default: not checked."""
    ipxe: bool | None = None
    """Whether the client is iPXE. Default: not checked."""
    dhcp_version: int | None = field(default=None, validator=_at_least(4, 6))
    """The version of DHCP that the client uses, 4 or 6. Default: either."""

    # Conditions on TFTP
    tftp_options: Fingerprint | None = field(default=None, converter=_fingerprint, metadata={"toml": list[str]})
    """The options of a TFTP request are one of these sets: names, with a value if it matters, such as
    `"tsize blksize=1468 windowsize=4"`. The order of the options does not matter, unless a persona whose only condition
    is `tftp-options` lists that order. `""`: the client requests no options; `"... msftwindow"`: this option and any
    others."""
    tftp_files: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """The file name matches one of these patterns; `"*"` matches slashes too. The name is the one that the client sent,
    without leading slashes, and with U+FFFD for a byte that is not UTF-8."""
    tftp_ports: frozenset[int] = field(default=frozenset(), converter=_ports, metadata={"toml": list[int]})
    """The client sends its requests from one of these UDP ports. Empty: any."""
    personas: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """The persona of the client's DHCP request was one of these; only without `offer`."""

    # Treatment of DHCP requests
    offer: OfferStyle | None = field(
        default=None, converter=_offer, metadata={"toml": Literal["file", "boot-server", "none"]}
    )
    """How the client gets the name of its boot file. `"file"`: in the offer. `"boot-server"`: the offer of a proxy
    refers it to port 4011, where it requests the name. `"none"`: a proxy does not answer it. Default: the persona
    applies to TFTP requests only."""
    option_43: Option43 | None = field(
        default=None,
        converter=_option_43,
        metadata={"toml": Literal["none", "use-boot-file", "menu", "raspberry-pi", "raspberry-pi-3"]},
    )
    """The content of option 43 in a reply with a boot file. `"none"`: no option 43. `"use-boot-file"`: discovery
    control 8, load the file at once. `"menu"`: the menu of a `pxe-menu` resolver; for a file the same as
    `"use-boot-file"`. `"raspberry-pi"` and `"raspberry-pi-3"`: what their ROMs expect."""
    reason: str = ""
    """With `offer = "none"`: why, for the log."""
    architecture: str = field(default="", converter=_architecture)
    """The architecture that resolvers see instead of the one that the client sends, such as `"arm-rpiboot"`."""
    tftp_server_options: tuple[int, ...] = field(default=(), converter=_server_options, metadata={"toml": list[int]})
    """Options that repeat the TFTP server in the reply: 66, 150."""
    takes_offer: bool | None = None
    """The client uses the address of an OFFER without a REQUEST for it: in server mode the OFFER counts as a lease of
    `firmware-lease-seconds`."""

    # Treatment of TFTP requests
    refuse_options: frozenset[str] = field(default=frozenset(), converter=_lower, metadata={"toml": list[str]})
    """TFTP options that are not acknowledged, such as `"blksize"` for a ROM that requests it and can't handle it."""
    max_blksize: int | None = field(default=None, validator=_at_least(8, 65464))
    """Largest block size in bytes, 8 to 65464, if `tftp.max-blksize` is too large for the client."""
    max_windowsize: int | None = field(default=None, validator=_at_least(1, 65535))
    """Largest window in blocks, 1 to 65535, if `tftp.max-windowsize` is too large for the client."""
    empty_when_missing: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Patterns of files that are sent as empty files if they are missing; other missing files are an error."""
    instead: Mapping[str, tuple[str, ...]] = field(
        factory=dict, converter=_instead, hash=False, metadata={"toml": dict[str, list[str]]}
    )
    """Pattern -> paths to try in this order if such a file is missing. `{name}` is its last part, `{path}` all of
    it."""
    ignore_case: bool | None = None
    """If a file is missing, serve one whose name differs only in upper and lower case."""
    cut_names: bool | None = None
    """If a file is missing, try its name up to the first byte that is not text (a control character, or not UTF-8), and
    without the byte before that: such a ROM has read beyond the name into the next DHCP option."""
    oack_once: bool | None = None
    """The client gives up at a second OACK: the OACK is sent again when the client repeats its request, and by the
    timer only once, after 12 s or 2.4 times the `timeout` that it requests: later than two of its own retries."""

    source: str = ""
    """Where the quirk was seen; bootfw does not use it."""

    def __attrs_post_init__(self) -> None:
        if self.like:
            return  # over() fills in the other fields first, and then calls check()
        self.check()

    def check(self) -> None:
        """Check that the fields are consistent.

        :raise ConfigError: they contradict each other.
        """
        if self.offer is None:
            for name in _OF_DHCP:
                if getattr(self, name):
                    key = name.replace("_", "-")
                    raise ConfigError('has no effect without "offer"', (key,))
            if not self._has_conditions():
                raise ConfigError("has no condition, and would match every client", ())
            return
        if self.personas:
            raise ConfigError('is only for personas without "offer", which apply to TFTP requests', ("personas",))
        if (self.offer is OfferStyle.NONE) != bool(self.reason):
            raise ConfigError('must be given with offer = "none", and only then', ("reason",))
        if self.option_43 not in (None, Option43.NONE, Option43.MENU) and self.offer is not OfferStyle.FILE:
            raise ConfigError('needs offer = "file": it is about the file in the offer', ("option-43",))
        if not (
            self.vendor_class
            or self.user_class
            or self.requested
            or self.boot_file_requested
            or self.architectures - {"unknown"}
        ):
            keys = "vendor-class, user-class, requested, boot-file-requested or architectures"
            raise ConfigError(
                f"needs {keys}: otherwise the installed system of such a machine is offered a boot file too", ("offer",)
            )

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

    def non_defaults(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, ``name`` first, without ``like``, which over() applies."""
        default = Rule(name=self.name, like="?")
        values = {a.name: getattr(self, a.name) for a in attrs.fields(Rule) if a.name != "like"}
        return {name: value for name, value in values.items() if name == "name" or value != getattr(default, name)}

    def over(self, base: "Rule") -> "Rule":
        """Return this rule with the fields that are not given taken from *base*.

        :raise ConfigError: the fields contradict each other.
        """
        values = {**self.non_defaults(), "like": self.like}
        if "offer" in values and values["offer"] is not base.offer:
            # These fields of *base* are valid only with its own offer.
            values = {"reason": "", "option_43": None} | values
        merged = attrs.evolve(base, **values)
        merged.check()
        return merged

    @property
    def files(self) -> "re.Pattern[str] | None":
        """The pattern for file names; None: any name matches."""
        return re.compile("|".join(map(translate, self.tftp_files))) if self.tftp_files else None

    @property
    def needs_client(self) -> bool:
        """Whether the rule depends on the client of a TFTP request, which has to be looked up."""
        return self.offer is not None or bool(
            self.vendor_class or self.architectures or self.oui or self.personas or self.ipxe is not None
        )

    def is_client(self, client: Client) -> bool:
        """Return whether the client of a TFTP request matches."""
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
        """The treatment of DHCP requests. Only for a rule with ``offer``."""
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
        """The quirks of TFTP transfers; None: there are none."""
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
