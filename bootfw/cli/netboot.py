"""Acts as booting firmware, step by step: from the first DISCOVER to the boot file."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from attrs import define, evolve, field, frozen

from bootfw.cli.bootclient import BootClient
from bootfw.cli.dhcpclient import BOOT_SERVER_PORT, Build, Link, Offer, ask_boot_server, offers_of, random_xid
from bootfw.cli.fetch import TFTP_PORT, Fetched, FetchError, fetch_http, fetch_tftp, kind_of
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import MessageType
from bootfw.wire.options import Option, RelaySuboption, encapsulate
from bootfw.wire.pxe import BootItem, DiscoveryControl, VendorOptions

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@frozen
class Profile:
    """A kind of firmware."""

    name: str
    about: str
    architecture: str
    ipxe: bool = False
    http: bool = False
    tftp_options: tuple[tuple[str, str], ...] = ()


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("bios", "the PXE ROM of a BIOS", "x86-bios", tftp_options=(("tsize", "0"), ("blksize", "1456"))),
        Profile(
            "uefi",
            "UEFI firmware",
            "x86_64-uefi",
            tftp_options=(("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")),
        ),
        Profile("uefi-http", "UEFI firmware that boots by HTTP", "x86_64-uefi", http=True),
        Profile("ipxe", "iPXE on UEFI", "x86_64-uefi", ipxe=True, tftp_options=(("blksize", "1432"), ("tsize", "0"))),
        Profile(
            "u-boot",
            "U-Boot on 64-bit ARM",
            "arm64-uboot",
            tftp_options=(("timeout", "5"), ("tsize", "0"), ("blksize", "1468")),
        ),
    )
}


@frozen
class Step:
    """One step of the boot."""

    what: str
    """The message or the object, such as "DISCOVER"."""
    result: str
    """OK, WARNING or PROBLEM."""
    text: str
    """What happened, in a sentence without a full stop."""
    seconds: float = 0.0
    """How long it took."""
    details: dict[str, Any] = field(factory=dict)
    """Further values for the JSON output."""


class Stopped(Exception):
    """The boot can't continue. The message says why, in a sentence without a full stop."""


class BootServer(Protocol):
    """The boot servers of a network, which answer on port 4011."""

    def boot_server(self, server: str, build: Build) -> list[Offer]:
        """Send a request to port 4011 of *server*; return the replies."""


class FileServers(Protocol):
    """The servers that a client gets its boot file from."""

    def tftp(self, host: str, name: str, options: Sequence[tuple[str, str]]) -> Fetched:
        """Fetch a file by TFTP.

        :raise FetchError: the file can't be fetched.
        """

    def http(self, url: str) -> Fetched:
        """Fetch a file by HTTP.

        :raise FetchError: the file can't be fetched.
        """


@define
class RealServers:
    """A BootServer and FileServers: those on the network.

    :param whole: false: only the beginning of a file is fetched.
    """

    tftp_port: int = TFTP_PORT
    boot_server_port: int = BOOT_SERVER_PORT
    whole: bool = True

    def boot_server(self, server: str, build: Build) -> list[Offer]:
        """See BootServer."""
        return ask_boot_server(server, build, port=self.boot_server_port)

    def tftp(self, host: str, name: str, options: Sequence[tuple[str, str]]) -> Fetched:
        """See FileServers."""
        return fetch_tftp(host, name, options, port=self.tftp_port, whole=self.whole)

    def http(self, url: str) -> Fetched:
        """See FileServers."""
        return fetch_http(url, whole=self.whole)


@define
class NetBoot:
    """A boot of one machine.

    :param link: sends its DHCP messages.
    :param own_address: returns the address of this host on the route to a server.
    :param report: called with each step when it is over.
    :param lease: take the offered lease, and release it.
    """

    profile: Profile
    client: BootClient
    link: Link
    servers: BootServer
    own_address: Callable[[str], str]
    report: Callable[[Step], None]
    lease: bool = False
    steps: list[Step] = field(factory=list, init=False)
    conclusion: str = field(default="", init=False)
    """Why it does not boot, in a sentence without a full stop; "": it boots."""

    def run(self, files: FileServers) -> bool:
        """Boot, and return whether the client got its boot file from *files*."""
        if self.link.relay:
            self.client = evolve(self.client, relay=self.link.relay)
        try:
            offers = self._discover()
            address_offer = next((offer for offer in offers if offer.address), None)
            if self.lease and address_offer is not None:
                self._take_lease(address_offer)
            name, server = self._boot_file(offers, address_offer)
            self._fetch(name, server, files)
        except Stopped as stopped:
            self.conclusion = str(stopped)
        return not self.conclusion

    def request_boot_file(self) -> tuple[Sequence[Offer], str, str]:
        """Request an address and a boot file, and fetch nothing.

        :return: the offers, the name of the boot file, and the server to fetch it from; the names are "" if the client
            is named no boot file.
        """
        if self.link.relay:
            self.client = evolve(self.client, relay=self.link.relay)
        offers = offers_of(self.link.query(lambda secs: self._relayed(self.client.discover(random_xid(), secs)), 1.0))
        try:
            return offers, *self._boot_file(offers, next((offer for offer in offers if offer.address), None))
        except Stopped as stopped:
            self.conclusion = str(stopped)
            return offers, "", ""

    def _step(self, subject: str, result: str, text: str, seconds: float = 0.0, **details: Any) -> None:
        step = Step(subject, result, text, seconds, details)
        self.steps.append(step)
        self.report(step)

    def _stop(self, subject: str, text: str, conclusion: str = "", seconds: float = 0.0) -> Stopped:
        self._step(subject, PROBLEM, text, seconds)
        return Stopped(conclusion or text)

    # DHCP

    def _discover(self) -> list[Offer]:
        began, xid = time.monotonic(), random_xid()
        replies = self.link.query(lambda secs: self._relayed(self.client.discover(xid, secs)), 1.0)
        offers = offers_of(replies)
        if not offers:
            seconds = time.monotonic() - began
            raise self._stop("DISCOVER", f"no offer {self.link.description}", self._why_no_offer(), seconds)
        for offer in offers:
            contents = [f"the address {offer.address}" if offer.address else "no address"]
            contents.append(f"the boot file {offer.file}" if offer.file else "no boot file")
            if offer.pxe.menu:
                contents.append(f"a menu of {len(offer.pxe.menu)} items")
            self._step(
                "OFFER",
                OK,
                f"{offer.server} offers {', '.join(contents)}",
                offer.seconds,
                server=offer.server,
                address=offer.address,
                file=offer.file,
                vendor_class=offer.vendor_class,
            )
        self._judge(offers)
        return offers

    def _relayed(self, message: Any) -> Any:
        """Add the relay's source port to *message* if that is not 67 (RFC 8357)."""
        if not self.link.unprivileged_relay:
            return message
        agent: dict[int, bytes] = {RelaySuboption.CIRCUIT_ID: b"bootfw", RelaySuboption.RELAY_SOURCE_PORT: b""}
        options = {**message.options, Option.RELAY_AGENT_INFORMATION: encapsulate(agent, end=False)}
        return evolve(message, options=options)

    def _why_no_offer(self) -> str:
        if not self.link.relay:
            return (
                f"no DHCP server answers {self.link.description}: none runs in this network, a firewall drops UDP "
                "ports 67 and 68, or the cable or VLAN is another one"
            )
        more = ""
        if self.link.on_this_host:
            more = "; if it serves only some interfaces of this host, give one of them with --interface"
        elif self.link.unprivileged_relay:
            more = "; it may also lack support for relays with another port than 67 (RFC 8357): run this as root"
        return (
            f"no offer comes {self.link.description}: no DHCP server listens there, a firewall drops UDP port 67, or "
            f"the server has no answer for this kind of client or for the network of {self.link.relay}{more}"
        )

    def _judge(self, offers: Sequence[Offer]) -> None:
        """Report a warning for offers that make some boots fail."""
        giving = [offer.server for offer in offers if offer.address]
        naming = {offer.server: offer.file for offer in offers if offer.file}
        if len(set(giving)) > 1:
            self._step("offers", WARNING, f"{' and '.join(giving)} give addresses: which one wins is chance")
        if len(set(naming.values())) > 1:
            sentence = " and ".join(f"{server} names {file}" for server, file in naming.items())
            self._step("offers", WARNING, f"{sentence}: which one the client loads depends on its firmware")
        if not giving and not self.link.relay:
            raise self._stop(
                "address",
                "no server offers an address",
                "the boot server answers, and no DHCP server offers an address: a client without one can't go on",
            )
        if not giving:
            text = "this server gives no address (proxyDHCP); the client's own DHCP server was not queried"
            self._step("address", WARNING, text)

    def _take_lease(self, offer: Offer) -> None:
        began, xid = time.monotonic(), random_xid()
        address, server = offer.address, offer.server
        try:
            replies = self.link.query(lambda secs: self._relayed(self.client.request(xid, address, server)), 0.2)
        finally:
            with suppress(OSError):
                self.link.send(self._relayed(self.client.release(random_xid(), address, server)), server)
        answer = next((reply for reply in replies if reply.server == server), None)
        seconds = time.monotonic() - began
        if answer is None or answer.message.message_type is not MessageType.ACK:
            text = "no answer" if answer is None else "a NAK"
            raise self._stop("REQUEST", f"{text} from {server} for {address}", seconds=seconds)
        self._step("REQUEST", OK, f"{server} leases {address}; it was given back at once", answer.seconds)

    def _boot_file(self, offers: Sequence[Offer], address_offer: Offer | None) -> tuple[str, str]:
        """Return (name of the boot file, server to fetch it from)."""
        chosen = self._chosen(offers)
        if chosen is None:
            servers = ", ".join(offer.server for offer in offers)
            raise self._stop("boot file", "no offer is about booting", self._why_no_file(servers))
        if not self._needs_boot_server(chosen):
            return chosen.file, chosen.next_server
        item = _first_item(chosen.pxe)
        server = self._boot_server_of(chosen, item)
        answer = self._boot_server_answer(server, item)
        return answer.file, answer.next_server

    def _chosen(self, offers: Sequence[Offer]) -> Offer | None:
        """Return the offer from which the firmware takes its boot file; None: no offer has one."""
        if self.profile.http:
            http = [offer for offer in offers if offer.vendor_class.startswith("HTTPClient") and offer.file]
            return next(iter(sorted(http, key=lambda each: not each.address)), None)
        if self.profile.name == "u-boot":
            return next((offer for offer in offers if offer.address and offer.file), None) or (
                next((offer for offer in offers if offer.file), None) if self.link.relay else None
            )
        about_boot = [offer for offer in offers if offer.vendor_class.startswith("PXEClient")]
        with_files = [offer for offer in offers if offer.file]
        # A server that gives the address and speaks PXE comes first, then proxies, then a plain boot file.
        about_boot.sort(key=lambda each: not each.address)
        return next(iter(about_boot or with_files), None)

    def _needs_boot_server(self, offer: Offer) -> bool:
        """Return whether the client requests its boot file from port 4011."""
        if self.profile.http or self.profile.name == "u-boot" or not offer.vendor_class.startswith("PXEClient"):
            return False
        if not offer.file:
            return True
        if self.profile.ipxe:
            return False
        control = offer.pxe.discovery_control
        return control is None or not control & DiscoveryControl.USE_BOOT_FILE

    def _boot_server_of(self, offer: Offer, item: int) -> str:
        for listed in offer.pxe.boot_servers:
            if listed.type == item and listed.addresses:
                return listed.addresses[0]
        return offer.server

    def _boot_server_answer(self, server: str, item: int) -> Offer:
        began, xid = time.monotonic(), random_xid()
        raw = pxe.pack(VendorOptions(boot_item=BootItem(item))) if item else b""
        address = self.own_address(server)
        client = evolve(self.client, relay="")
        replies = self.servers.boot_server(server, lambda secs: client.boot_server_request(xid, address, raw))
        answer = next((reply for reply in replies if reply.file), None)
        seconds = time.monotonic() - began
        if answer is not None:
            self._step("port 4011", OK, f"{answer.server} names the boot file {answer.file}", answer.seconds)
            return answer
        if replies:
            raise self._stop("port 4011", f"the answer of {server} names no boot file", seconds=seconds)
        raise self._stop(
            "port 4011",
            f"no answer from {server}",
            f"{server} sends the client to its port 4011 and does not answer there: a firewall drops UDP port 4011, or "
            "nothing listens on it",
            seconds,
        )

    def _why_no_file(self, servers: str) -> str:
        if self.profile.http:
            return f'{servers} answers, and no offer has option 60 "HTTPClient" and a URL, which HTTP boot takes'
        reason = "the boot server is not in this network, or does not know this kind of client"
        return f"{servers} answers, and no server names a boot file: {reason}"

    # Files

    def _fetch(self, name: str, server: str, files: FileServers) -> None:
        parts = urlsplit(name)
        if self.profile.http and parts.scheme not in ("http", "https"):
            raise self._stop("boot file", f'"{name}" is no URL, and this client boots by HTTP')
        if parts.scheme and "://" in name and not self.profile.http and not self.profile.ipxe:
            raise self._stop("boot file", f'"{name}" is a URL, and this client loads by TFTP')
        by_http = parts.scheme in ("http", "https") and "://" in name
        protocol = "HTTP" if by_http else "TFTP"
        began = time.monotonic()
        try:
            if by_http:
                fetched = files.http(name)
            else:
                host, path = (parts.hostname or server, unquote(parts.path)) if "://" in name else (server, name)
                fetched = files.tftp(host, path, self.profile.tftp_options)
        except FetchError as error:
            raise self._stop(protocol, str(error), seconds=time.monotonic() - began) from error
        kind = kind_of(fetched.begin)
        rate = fetched.size / fetched.seconds / 1e6 if fetched.seconds > 0 else 0.0
        retries = f", {fetched.retries} retries" if fetched.retries else ""
        self._step(
            protocol,
            OK,
            f"{name}: {fetched.size} bytes{', ' + kind if kind else ''}, {rate:.1f} MB/s{retries}",
            fetched.seconds,
            file=name,
            bytes=fetched.size,
            retries=fetched.retries,
            options=dict(fetched.options),
        )
        for note in fetched.notes:
            self._step(protocol, WARNING, note)
        if fetched.retries > 2:
            self._step(protocol, WARNING, "packets are lost on the way")
        wrong = self._wrong(name, fetched, kind)
        if wrong:
            raise self._stop("boot file", wrong)

    def _wrong(self, name: str, fetched: Fetched, kind: str) -> str:
        """Return why this client can't boot the file; "": no reason is known."""
        if not fetched.size:
            return f"{name} is empty"
        if kind == "a page of HTML":
            return f"{name} is {kind}: the server answers with a page in place of the file"
        if self.profile.name in ("uefi", "uefi-http") and kind != "a UEFI program":
            return f"{name} is no UEFI program, and this firmware starts nothing else"
        if self.profile.name == "bios" and kind in ("a UEFI program", "an iPXE script"):
            return f"{name} is {kind}, which a BIOS can't start"
        return ""


def _first_item(options: VendorOptions) -> int:
    """Return the type of the first menu item that is on a server; 0: there is none."""
    return next((item.type for item in options.menu if item.type), 0)
