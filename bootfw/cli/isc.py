"""Reads the lease files of ISC dhcpd and OpenBSD's dhcpd: a log of declarations, of which the last one for each address
counts (dhcpd.leases(5)).

Entries that can't be imported are reported with their line numbers. A declaration that a crash or an editor has damaged
does not prevent the import of the others.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Literal

from attrs import define, field

from bootfw.cli.iscsyntax import (
    IDENTITY,
    LEASE_STATEMENTS,
    NOT_NEEDED,
    Block,
    DeclarationReader,
    Statement,
    shown,
    unquoted,
)
from bootfw.cli.leaseimport import Identify, ImportedLeases, ipv6_lease
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.wire.dhcp4 import ETHERNET

HARDWARE: Mapping[str, int] = {"ethernet": ETHERNET, "token-ring": 6, "fddi": 8, "infiniband": 32}
"""Name in dhcpd's files -> htype (RFC 1700)."""

_STATES = ("active", "free", "released", "expired", "abandoned", "reset", "backup", "bootp")
_NAMES = (["supersede", "host-name", "="], ["supersede", "option", "host-name", "="], ["option", "host-name"])
_BOOT_FILE = "a boot file for one machine belongs into the configuration, to the resolver by-client"


def is_isc(text: str) -> bool:
    """Return whether *text* is a lease file of ISC dhcpd."""
    return bool(re.search(r"^(lease|host|server-duid|authoring-byte-order|ia-\w\w)\s.*[{;]\s*(#.*)?$", text, re.M))


def read_isc(text: str, now: float, identify: Identify) -> ImportedLeases:
    """Read the leases of both address families, and the hosts that were added at run time (OMAPI).

    An active lease stays active. An abandoned address becomes a declined one. Other leases become expired or released
    leases, so that their clients get the same address again.
    """
    big_endian = re.search(r"^authoring-byte-order\s+big-endian", text, re.MULTILINE) is not None
    found = _Import(now, identify, "big" if big_endian else "little")
    # Names may be in any encoding, so from here on each character stands for a byte.
    text = text.encode("utf-8", "surrogateescape").decode("latin-1")
    for declaration in DeclarationReader(found.leave_out).read(text):
        found.add(declaration)
    left_out = sorted(line for lines in found.left_out.values() for line in lines)
    return ImportedLeases(found.leases, tuple(found.hosts.values()), tuple(_line(*each) for each in left_out))


def _line(number: int, text: str) -> str:
    return f"line {number} {text}" if text.startswith("can't") else f"line {number}: {text}"


class _InvalidDeclaration(ValueError):
    """A declaration can't be imported; the message says why."""


@define
class _Import:
    """Collects the leases and hosts of the declarations."""

    _now: float
    _identify: Identify
    _byte_order: Literal["little", "big"]
    """The byte order of the machine that wrote the file."""
    leases: dict[str, Lease] = field(factory=dict)
    hosts: dict[str, Reservation] = field(factory=dict)
    left_out: dict[str, list[tuple[int, str]]] = field(factory=dict)
    """Declaration, or "" -> (line number, what was left out) for each omission."""

    def leave_out(self, line: int, omission: str, declaration: str = "") -> None:
        """Note what is left out. Notes about a declaration are dropped when a later declaration replaces it."""
        self.left_out.setdefault(declaration, []).append((line, omission))

    def add(self, block: Block) -> None:
        """Add a declaration. A later one replaces an earlier one, unless it is damaged."""
        match block.words:
            case ["lease", address]:
                self._add_declaration(f"lease {address}", block, lambda: self._lease(address, block))
            case ["host", name]:
                self._add_declaration(f"host {name}", block, lambda: self._host(name, block))
            case ["ia-na", key]:
                self._add_declaration(f"ia-na {key}", block, lambda: self._association(key, block))
            case ["ia-ta" | "ia-pd" as kind, *_]:
                unsupported = "temporary addresses" if kind == "ia-ta" else "prefixes"
                self.leave_out(block.line, f"{kind} is not imported: bootfw gives no {unsupported}")
            case [word, *_] if word in NOT_NEEDED:
                pass
            case _:
                self.leave_out(block.line, f"{str(block) or 'a block without a name'} is not imported")

    def _add_declaration(self, declaration: str, block: Block, read: Callable[[], None]) -> None:
        self.left_out.pop(declaration, None)
        try:
            if block.damage:
                raise _InvalidDeclaration(block.damage)
            read()
        except (IndexError, OSError, ValueError) as error:
            reason = str(error) if isinstance(error, _InvalidDeclaration) else "it is not valid"
            self.leave_out(block.line, f"{block} is not imported: {reason}", declaration)

    def _lease(self, address: str, block: Block) -> None:
        _address(AF_INET, address)
        statements = _by_name(block)
        lease = self._lease_of(address, statements)
        self.leases.pop(address, None)
        if isinstance(lease, str):
            self.leave_out(block.line, f"{block} is not imported: {lease}", f"lease {address}")
            return
        if lease is None:
            return
        self.leases[address] = lease
        for statement in _not_understood(block):
            self.leave_out(statement.line, f"{block} is imported without {statement}", f"lease {address}")
        self.hosts.pop(f"lease {address}", None)
        if "reserved" in statements and lease.client:
            self.hosts[f"lease {address}"] = Reservation(address, mac=_mac_or_nothing(lease), client_id=lease.client_id)

    def _lease_of(self, address: str, statements: Mapping[str, Statement]) -> Lease | str | None:
        """Return the lease of an address; None: no client has it; a string: why it can't be imported."""
        state = _state(statements)
        if state == "abandoned":
            # dhcpd never uses an abandoned address again; here the quarantine ends.
            return Lease(address, b"", "", LeaseState.DECLINED, self._now, self._now + QUARANTINE_SECONDS)
        hardware, mac = _hardware(statements)
        client_id = _identifier(statements.get("uid"))
        client = self._identify(hardware, mac, client_id)
        if not client:
            return "it has no client: no hardware address and no client identifier" if state == "active" else None
        granted, expires = self._times(statements, state)
        return Lease(
            address,
            client,
            mac.hex(":"),
            LeaseState.RELEASED if state == "released" else LeaseState.ACTIVE,
            granted,
            expires,
            client_id,
            hostname=_text(statements.get("client-hostname")),
            kind="system",
        )

    def _times(self, statements: Mapping[str, Statement], state: str) -> tuple[float, float]:
        """Return (when the lease was granted, when it ends or ended), in seconds since the epoch."""
        granted = _time(statements.get("cltt") or statements.get("starts")) or self._now
        expires = _time(statements.get("ends"))
        if state != "active":
            expires = min(expires or self._now, self._now)
        return granted, NEVER if expires is None else expires

    def _association(self, key: str, block: Block) -> None:
        """Add an IA_NA. Its name is the IAID, in the byte order of the machine, followed by the DUID."""
        name = unquoted(key).encode("latin-1")
        iaid, duid = name[:4], name[4:]
        if not duid:
            raise _InvalidDeclaration("its name holds no DUID")
        granted = _time(_by_name(block).get("cltt")) or self._now
        leases = {}
        for item in block.items:
            if not isinstance(item, Block) or item.words[:1] != ["iaaddr"]:
                continue
            address = _address(AF_INET6, item.words[1])
            statements = _by_name(item)
            state = _state(statements)
            if state == "abandoned":
                quarantine = LeaseState.DECLINED, self._now, self._now + QUARANTINE_SECONDS
                leases[address] = Lease(address, b"", "", *quarantine)
                continue
            _, expires = self._times(statements, state)
            lease_state = LeaseState.RELEASED if state == "released" else LeaseState.ACTIVE
            number = int.from_bytes(iaid, self._byte_order)
            leases[address] = ipv6_lease(address, duid, number, granted, expires, state=lease_state)
        self.leases |= leases

    def _host(self, name: str, block: Block) -> None:
        statements = _by_name(block)
        self.hosts.pop(name, None)
        if "deleted" in statements:
            return
        _, mac = _hardware(statements)
        try:
            reservation = Reservation(
                _fixed_address(statements.get("fixed-address")),
                mac=mac.hex(":"),
                client_id=_identifier(statements.get("uid")),
                hostname=_host_name(block),
            )
        except ValueError as error:
            raise _InvalidDeclaration(str(error)) from error
        self.hosts[name] = reservation
        for statement in _unknown(block, {"dynamic", "hardware", "fixed-address", "uid"}):
            if not _is_host_name(statement):
                hint = f": {_BOOT_FILE}" if "filename" in str(statement) else ""
                self.leave_out(statement.line, f"{block} is imported without {statement}{hint}", f"host {name}")


def _unknown(block: Block, known: set[str]) -> Iterator[Statement | Block]:
    return (item for item in block.items if item.words and item.words[0] not in known)


def _not_understood(block: Block) -> Iterator[Statement | Block]:
    """Yield the statements of a lease that are not imported."""
    yield from _unknown(block, LEASE_STATEMENTS)
    yield from (item for item in block.items if item.words[:1] == ["client-hostname"] and len(item.words) != 2)


def _by_name(block: Block) -> dict[str, Statement]:
    """Return the statements by their first word.

    :raise _InvalidDeclaration: a statement that may occur only once is repeated.
    """
    statements: dict[str, Statement] = {}
    for item in block.items:
        if isinstance(item, Block) or not item.words:
            continue
        if item.words[0] in IDENTITY and item.words[0] in statements:
            raise _InvalidDeclaration(
                f"{item.words[0]} is given twice, on lines {statements[item.words[0]].line} and {item.line}"
            )
        statements[item.words[0]] = item
    return statements


def _state(statements: Mapping[str, Statement]) -> str:
    """Return the binding state. OpenBSD's dhcpd writes only "abandoned"."""
    statement = statements.get("binding")
    if statement is None:
        return "abandoned" if "abandoned" in statements else "active"
    match statement.words:
        case ["binding", "state", state] if state in _STATES:
            return "active" if state == "bootp" else state
    raise _InvalidDeclaration(f"line {statement.line}: {statement}")


def _hardware(statements: Mapping[str, Statement]) -> tuple[int, bytes]:
    statement = statements.get("hardware")
    if statement is None:
        return ETHERNET, b""
    try:
        _, kind, digits = statement.words
        # Others are written as "unknown-37".
        return HARDWARE.get(kind) or int(kind.removeprefix("unknown-")), _hex(digits)
    except ValueError as error:
        raise _InvalidDeclaration(f"line {statement.line}: {statement}") from error


def _hex(text: str) -> bytes:
    """Convert ``0:1:ab`` to bytes; leading zeros may be missing."""
    return bytes(int(part, 16) for part in text.split(":"))


def _identifier(statement: Statement | None) -> bytes:
    """Convert ``uid "\\001abc"`` or ``uid 1:61:62:63`` to bytes."""
    if statement is None:
        return b""
    try:
        _, value = statement.words
        return unquoted(value).encode("latin-1") if value.startswith('"') else _hex(value)
    except ValueError as error:
        raise _InvalidDeclaration(f"line {statement.line}: {statement}") from error


def _fixed_address(statement: Statement | None) -> str:
    if statement is None:
        return ""
    addresses = [each for each in "".join(statement.words[1:]).split(",") if each]
    if len(addresses) > 1:
        reason = f"it has {len(addresses)} addresses, {' and '.join(addresses)}, and a reservation has one"
        raise _InvalidDeclaration(f"{reason}: add those that you want by bootfw leases reserve")
    return addresses[0] if addresses else ""


def _is_host_name(item: Statement | Block) -> bool:
    return isinstance(item, Statement) and any(item.words[:-1] == words for words in _NAMES)


def _host_name(block: Block) -> str:
    for item in block.items:
        if _is_host_name(item):
            return _as_text(item.words[-1])
    return ""


def _text(statement: Statement | None) -> str:
    """Return the text of a statement such as ``client-hostname "pc";``."""
    return _as_text(statement.words[1]) if statement is not None and len(statement.words) == 2 else ""


def _as_text(word: str) -> str:
    return unquoted(word).encode("latin-1").decode("utf-8", "surrogateescape")


def _time(statement: Statement | None) -> float | None:
    """Convert ``4 2026/11/19 12:00:00`` (UTC) or ``epoch 1763553600`` to seconds since the epoch; None: "never", or no
    statement."""
    if statement is None:
        return None
    try:
        match statement.words[1:]:
            case ["never"]:
                return None
            case ["epoch", seconds]:
                return float(int(seconds))
            case [_, day, moment] | [_, day, moment, "UTC"]:
                return datetime.strptime(f"{day} {moment}", "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        pass
    raise _InvalidDeclaration(f"line {statement.line}: {statement}")


def _address(family: int, text: str) -> str:
    try:
        return inet_ntop(family, inet_pton(family, text))
    except OSError:
        raise _InvalidDeclaration(f"{shown(text)} is not an IPv{4 if family == AF_INET else 6} address") from None


def _mac_or_nothing(lease: Lease) -> str:
    """Return the MAC of a lease if it has six bytes, as a reservation requires; "": it has not."""
    return lease.mac if len(lease.mac) == 17 else ""
