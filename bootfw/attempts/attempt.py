"""A boot attempt as a value: the stages of one boot of one machine, from its first DHCP packet on, and its verdict."""

import enum
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


class Verdict(enum.Enum):
    """How a boot attempt ended."""

    # The members are singletons; Enum's own hash is a Python call.
    __hash__ = object.__hash__

    IN_PROGRESS = "in progress"
    BOOTED = "booted"
    """The client loaded its last file completely, and has sent nothing since."""
    UP = "up"
    """The installed system has requested the phone-home URL."""
    NOTHING_TO_BOOT = "nothing to boot"
    """The configuration gives the client no boot file, or has it boot its own disk; or it was "bootfw probe"."""
    ELSEWHERE = "sent to another server"
    """The boot file is on a server that is not ours, so what happened there is not known."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The service stopped during the boot. A later start of the service does not continue the attempt."""


class StageKind(enum.Enum):
    """What a stage is. Each names the keys of :attr:`Stage.data`; a key without a value is left out."""

    __hash__ = object.__hash__

    DISCOVER = "discover"
    """DHCPDISCOVER or SOLICIT of the client: "persona", "architecture", "stack" ("pxe", "ipxe" or "http"), "family",
    "xid", "interface", "relay", "vendor_class"."""
    OFFER = "offer"
    """Our OFFER or ADVERTISE: "address", "file", "server" (of the file, when it is another than ours), "menu" (number
    of items), "destination", "boot_server" (true: the client has to request the file of port 4011)."""
    REQUEST = "request"
    """DHCPREQUEST or its like: as DISCOVER."""
    ACK = "ack"
    """Our ACK or REPLY: as OFFER."""
    BOOT_SERVER = "boot-server"
    """The client's request on port 4011: as DISCOVER, and "item", the menu item that was picked."""
    BOOT_SERVER_REPLY = "boot-server-reply"
    """Our reply to it: as OFFER."""
    RESOLVER = "resolver"
    """A resolver was called: "resolver", "seconds", "outcome" ("answered", "too slow" or "unavailable"), "file",
    "menu", "reason"."""
    NO_ANSWER = "no-answer"
    """The client got no reply: "reason", "phase"."""
    NO_FILE = "no-file"
    """The client got an address but no boot file: "reason", "phase"."""
    NO_ADDRESS = "no-address"
    """The configuration gives the client no address: "reason"."""
    POOL_EXHAUSTED = "pool-exhausted"
    """No address was free: "network"."""
    ADDRESS_DECLINED = "address-declined"
    """The client declined the address because another host uses it: "address"."""
    ADDRESS_REFUSED = "address-refused"
    """Our NAK: the client may not have the address that it requested: "address"."""
    OTHER_SERVER = "other-server"
    """The client accepted the offer of another DHCP server: "server"."""
    OTHER_BOOT_SERVER = "other-boot-server"
    """Another server answered the client, with a boot file or as a PXE boot server: "server", "file"."""
    TRANSFER = "transfer"
    """A file that the client loads: "protocol", "file", "peer", "outcome" (name of a :class:`bootfw.values.Outcome`
    in lower case; absent while it runs), "bytes", "size", "seconds", "blksize", "windowsize", "blocks" (the last
    acknowledged one), "oack" (an OACK was sent), "retransmitted", "waited", "backend", "detail"."""
    UPLOAD = "upload"
    """A file that the client stores: as TRANSFER."""
    REFUSED = "refused"
    """A request for a file was answered with an error: "protocol", "file", "code", "message", "detail", "upload",
    "nearest" (names that exist and are like it)."""
    SECOND_STAGE = "second-stage"
    """The client requested a file in the wrong directory and got the one at "path": "file", "path"."""
    PROGRAM = "program"
    """The boot program's header was read: "file", "architecture" (of wire/iana.py), "client" (its architecture)."""
    TLS = "tls"
    """The client and we could not agree on TLS: "reason"."""
    PROBLEM = "problem"
    """A fault on our side: "what", "doing"."""
    LOOP = "loop"
    """The loop breaker had the client boot its own disk: "files", "times"."""
    RESTART = "restart"
    """The firmware sends its first DHCP request again: "seconds" since the client did something."""
    RETURNED = "returned"
    """This boot is the one that such a restart began: "file", the boot program of the boot before it."""
    SYSTEM = "system"
    """An operating system on the machine sent a DHCP request."""
    REPORT = "report"
    """By a protocol of a plugin, the client reported how far it is, or got its boot file: "protocol", "what",
    "by_system" (true: its operating system reported it)."""
    INSTALLATION = "installation"
    """The system that installs the machine reported by HTTP how far it is, or why it has failed: "what", "failed"."""
    UP = "up"
    """The phone-home URL was requested, or the system said by another "protocol" that it is up."""


@frozen
class Stage:
    """One step of a boot. Repetitions of it are counted."""

    at: float
    """Seconds since the epoch."""
    kind: StageKind
    data: Mapping[str, Any] = field(factory=dict)
    """JSON values, with the keys that the kind names."""
    count: int = 1
    """How often it happened; more than 1: the client repeated its request."""
    until: float = 0.0
    """When it happened last, or a transfer ended; seconds since the epoch."""


@frozen
class Cause:
    """Why an attempt failed, or booted nothing: the result of one symptom of bootfw/attempts/symptoms.py."""

    key: str
    """Such as "boot-server-not-requested"; it stays the same from release to release."""
    sentence: str
    """What happened, for people, without a full stop."""
    remedy: str
    """What to look at, or to change."""


@frozen
class BootAttempt:
    """What one machine did from its first packet on, until it ran an operating system or gave up."""

    id: str
    """Unique, of letters, digits and hyphens."""
    began: float
    """Seconds since the epoch."""
    ended: float | None = None
    """When the verdict was reached; None: in progress."""
    mac: str = ""
    """Lower-case with colons; "" when it is not known."""
    uuid: str = ""
    """In SMBIOS text form; "" when it is not known."""
    addresses: tuple[str, ...] = ()
    """IP addresses that the client had, in the order in which they were seen."""
    persona: str = ""
    """That of its first request: the firmware's."""
    architecture: str = ""
    """Of wire/iana.py; "" when it is not known."""
    interface: str = ""
    """Where its requests arrived."""
    stages: tuple[Stage, ...] = ()
    omitted: int = 0
    """Number of stages that were left out, between the first and the last ones, because there were too many."""
    files: tuple[str, ...] = ()
    """Paths that were transferred completely, each once, in order."""
    bytes: int = 0
    """File bytes that the client has acknowledged, of all transfers."""
    retries: Mapping[str, int] = field(factory=dict)
    """Kind of stage -> how often it was repeated; stages that were not repeated are left out."""
    verdict: Verdict = Verdict.IN_PROGRESS
    cause: Cause | None = None
    """Why, for FAILED and NOTHING_TO_BOOT."""
    recording: str = ""
    """Path of the file with its packets, for FAILED; "": there is none. ``bootfw replay`` reads it."""
    listed_seconds: float = field(default=0.0, eq=False)
    """``seconds`` of an attempt of a list, whose stages are left out."""

    @property
    def client(self) -> str:
        """The name of the machine: its MAC, or else its UUID, or else an address."""
        return self.mac or self.uuid or (self.addresses[0] if self.addresses else "")

    @property
    def seconds(self) -> float:
        """From its first packet to its last stage."""
        if not self.stages:
            return self.listed_seconds
        return max([self.began, *(max(stage.at, stage.until) for stage in self.stages)]) - self.began
