"""A network boot that ``bootfw probe`` simulates: what it concludes from valid and invalid offers of servers."""

from collections.abc import Sequence
from socket import inet_aton

import pytest
from attrs import define, evolve, field

from bootfw.cli import dhcpclient
from bootfw.cli.bootclient import boot_client
from bootfw.cli.dhcpclient import Build, Offer, _renamed
from bootfw.cli.fetch import Fetched, FetchError
from bootfw.cli.netboot import PROFILES, NetBoot, Step
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREPLY, Message, MessageType
from bootfw.wire.options import Option, RelaySuboption, relay_agent
from bootfw.wire.pxe import BootServers, DiscoveryControl, MenuItem, VendorOptions

MAC = bytes.fromhex("525400123456")
DHCP, PROXY, OTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"
EFI = Fetched(size=4096, seconds=0.5, begin=b"MZ" + bytes(10))
USE_BOOT_FILE = pxe.pack(VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE))


def offer(
    server: str, address: str = "", file: str = "", kind: MessageType = MessageType.OFFER, **options: bytes
) -> Offer:
    """An offer of *server*; options by their names."""
    values: dict[int, bytes] = {Option.MESSAGE_TYPE: bytes((kind,)), Option.SERVER_IDENTIFIER: inet_aton(server)}
    if file:
        values[Option.BOOTFILE_NAME] = file.encode() + b"\0"
    values |= {Option[name.upper()]: value for name, value in options.items() if value}
    message = Message(
        op=BOOTREPLY,
        xid=0,
        chaddr=MAC,
        yiaddr=address or "0.0.0.0",
        siaddr=server if file else "0.0.0.0",
        options=values,
    )
    return Offer(message, server, 0.25)


def proxy_offer(file: str = "", control: bytes = b"", server: str = PROXY) -> Offer:
    """An offer without an address; *control* is option 43."""
    return offer(server, "", file, vendor_class_identifier=b"PXEClient", vendor_specific=control)


@define
class FakeLink:
    """Answers each message with the next list of *replies*."""

    replies: list[list[Offer]]
    relay: str = ""
    unprivileged_relay: bool = False
    on_this_host: bool = False
    description: str = "on eth0"
    sent: list[Message] = field(factory=list)

    def query(self, build: Build, seconds: float) -> list[Offer]:
        self.sent.append(build(0))
        return self.replies.pop(0) if self.replies else []

    def send(self, message: Message, server: str) -> None:
        self.sent.append(message)


@define
class FakeServers:
    """Boot servers that answer at port 4011 with *boot_servers*, and serve *files* by TFTP and HTTP."""

    files: dict[str, Fetched] = field(factory=dict)
    boot_servers: dict[str, list[Offer]] = field(factory=dict)
    requests: list[tuple[str, Message]] = field(factory=list)
    fetched: list[tuple[str, str]] = field(factory=list)

    def boot_server(self, server: str, build: Build) -> list[Offer]:
        self.requests.append((server, build(0)))
        return self.boot_servers.get(server, [])

    def tftp(self, host: str, name: str, options: Sequence[tuple[str, str]]) -> Fetched:
        self.fetched.append((host, name))
        if name not in self.files:
            raise FetchError(f'TFTP server {host} refuses: error 1, "File not found"')
        return self.files[name]

    def http(self, url: str) -> Fetched:
        self.fetched.append(("", url))
        return self.files[url]


def boot(
    profile: str, link: FakeLink | list[Offer], servers: FakeServers, lease: bool = False
) -> tuple[NetBoot, list[Step]]:
    """Simulate a boot until it ends; the steps that it has reported."""
    client_profile = PROFILES[profile]
    steps: list[Step] = []
    client = boot_client(MAC, client_profile.architecture, ipxe=client_profile.ipxe, http=client_profile.http)
    attached_link = link if isinstance(link, FakeLink) else FakeLink([link])
    netboot = NetBoot(client_profile, client, attached_link, servers, lambda server: "10.0.0.99", steps.append, lease)
    assert netboot.run(servers) is not bool(netboot.conclusion)
    return netboot, steps


def test_uefi_requests_its_file_from_the_boot_server() -> None:
    ack = offer(PROXY, "", "snponly.efi", MessageType.ACK)
    servers = FakeServers({"snponly.efi": EFI}, {PROXY: [ack]})
    netboot, steps = boot("uefi", [offer(DHCP, "10.0.0.50"), proxy_offer()], servers)
    assert netboot.conclusion == ""
    assert [step.what for step in steps] == ["OFFER", "OFFER", "port 4011", "TFTP"]
    assert servers.fetched == [(PROXY, "snponly.efi")]
    [(server, request)] = servers.requests
    assert (server, request.ciaddr, request.message_type) == (PROXY, "10.0.0.99", MessageType.REQUEST)


def test_bios_loads_the_file_of_the_offer_with_discovery_control_8() -> None:
    servers = FakeServers({"undionly.kpxe": Fetched(size=10, begin=b"\xea")})
    netboot, _ = boot("bios", [offer(DHCP, "10.0.0.50"), proxy_offer("undionly.kpxe", USE_BOOT_FILE)], servers)
    assert (netboot.conclusion, servers.requests) == ("", [])


def test_bios_requests_the_boot_server_by_default() -> None:
    servers = FakeServers()
    netboot, _ = boot("bios", [offer(DHCP, "10.0.0.50"), proxy_offer("undionly.kpxe")], servers)
    assert len(servers.requests) == 1
    assert netboot.conclusion == (
        "10.0.0.2 sends the client to its port 4011 and does not answer there: a firewall drops UDP port 4011, or "
        "nothing listens on it"
    )


def test_the_first_item_of_a_menu_is_requested_from_its_server() -> None:
    menu = VendorOptions(
        boot_servers=(BootServers(0x8001, (OTHER,)),), menu=(MenuItem(0, "disk"), MenuItem(0x8001, "Install"))
    )
    servers = FakeServers({"x.efi": EFI}, {OTHER: [offer(OTHER, "", "x.efi", MessageType.ACK)]})
    netboot, _ = boot("uefi", [offer(DHCP, "10.0.0.50"), proxy_offer("", pxe.pack(menu))], servers)
    assert netboot.conclusion == ""
    [(server, request)] = servers.requests
    item = pxe.boot_item(request.options[Option.VENDOR_SPECIFIC])
    assert (server, item and item.type) == (OTHER, 0x8001)


def test_http_boot_uses_only_an_offer_with_a_url_for_httpclient() -> None:
    url = "http://10.0.0.2/snponly.efi"
    http = offer(PROXY, "", url, vendor_class_identifier=b"HTTPClient")
    assert boot("uefi-http", [offer(DHCP, "10.0.0.50"), http], FakeServers({url: EFI}))[0].conclusion == ""
    netboot, _ = boot("uefi-http", [offer(DHCP, "10.0.0.50", "x.efi"), proxy_offer("x.efi")], FakeServers())
    assert netboot.conclusion == (
        '10.0.0.1, 10.0.0.2 answers, and no offer has option 60 "HTTPClient" and a URL, which HTTP boot takes'
    )


def test_ipxe_follows_a_url() -> None:
    url = "http://10.0.0.2/boot.ipxe"
    servers = FakeServers({url: Fetched(size=9, begin=b"#!ipxe\n")})
    assert boot("ipxe", [offer(DHCP, "10.0.0.50"), proxy_offer(url)], servers)[0].conclusion == ""


def test_u_boot_ignores_the_file_of_a_proxy() -> None:
    servers = FakeServers({"boot.scr": Fetched(size=9)})
    assert boot("u-boot", [offer(DHCP, "10.0.0.50", "boot.scr")], servers)[0].conclusion == ""
    netboot, _ = boot("u-boot", [offer(DHCP, "10.0.0.50"), proxy_offer("boot.scr")], servers)
    assert netboot.conclusion.startswith("10.0.0.1, 10.0.0.2 answers, and no server names a boot file")


def test_no_answer_is_explained() -> None:
    netboot, steps = boot("uefi", [], FakeServers())
    assert netboot.conclusion.startswith("no DHCP server answers on eth0: none runs in this network")
    assert [(step.what, step.result) for step in steps] == [("DISCOVER", "problem")]


def test_missing_address_is_explained() -> None:
    netboot, _ = boot("uefi", [proxy_offer()], FakeServers())
    assert netboot.conclusion.startswith("the boot server answers, and no DHCP server offers an address")


def test_conflicting_servers_are_warnings() -> None:
    servers = FakeServers({"a.efi": EFI})
    _, steps = boot("uefi", [offer(DHCP, "10.0.0.50", "a.efi"), offer(OTHER, "10.0.0.51", "b.efi")], servers)
    assert [step.text for step in steps if step.result == "warning"] == [
        "10.0.0.1 and 10.0.0.3 give addresses: which one wins is chance",
        "10.0.0.1 names a.efi and 10.0.0.3 names b.efi: which one the client loads depends on its firmware",
    ]


def test_missing_boot_file_is_the_conclusion() -> None:
    netboot, _ = boot("uefi", [offer(DHCP, "10.0.0.50", "gone.efi")], FakeServers())
    assert netboot.conclusion == 'TFTP server 10.0.0.1 refuses: error 1, "File not found"'


def test_file_for_another_architecture_is_reported() -> None:
    def conclusion(profile: str, begin: bytes, size: int = 9) -> str:
        servers = FakeServers({"file": Fetched(size=size, begin=begin)})
        return boot(profile, [offer(DHCP, "10.0.0.50", "file")], servers)[0].conclusion

    assert conclusion("uefi", b"#!ipxe") == "file is no UEFI program, and this firmware starts nothing else"
    assert conclusion("bios", b"MZ") == "file is a UEFI program, which a BIOS can't start"
    assert conclusion("bios", b"", 0) == "file is empty"
    assert conclusion("ipxe", b"<html>").startswith("file is a page of HTML")
    assert conclusion("bios", b"\xea") == ""


def test_simulation_takes_no_lease_by_default() -> None:
    link = FakeLink([[offer(DHCP, "10.0.0.50", "a.efi")]])
    boot("uefi", link, FakeServers({"a.efi": EFI}))
    assert [message.message_type for message in link.sent] == [MessageType.DISCOVER]


def test_lease_is_released_at_the_end() -> None:
    ack = offer(DHCP, "10.0.0.50", kind=MessageType.ACK)
    link = FakeLink([[offer(DHCP, "10.0.0.50", "a.efi")], [ack]])
    netboot, steps = boot("uefi", link, FakeServers({"a.efi": EFI}), lease=True)
    assert netboot.conclusion == ""
    assert [message.message_type for message in link.sent] == [
        MessageType.DISCOVER,
        MessageType.REQUEST,
        MessageType.RELEASE,
    ]
    assert link.sent[2].ciaddr == "10.0.0.50"
    assert "10.0.0.1 leases 10.0.0.50; it was given back at once" in [step.text for step in steps]


def test_lease_is_released_even_if_the_ack_is_lost() -> None:
    link = FakeLink([[offer(DHCP, "10.0.0.50", "a.efi")], []])
    netboot, _ = boot("uefi", link, FakeServers(), lease=True)
    assert netboot.conclusion == "no answer from 10.0.0.1 for 10.0.0.50"
    assert link.sent[-1].message_type is MessageType.RELEASE


def test_server_behind_a_relay_may_be_a_proxy() -> None:
    """The DHCP server that gives the address was not queried, so its absence stops nothing."""
    ack = offer(PROXY, "", "a.efi", MessageType.ACK)
    servers = FakeServers({"a.efi": EFI}, {PROXY: [ack]})
    link = FakeLink([[proxy_offer()]], relay="10.0.0.99", unprivileged_relay=True)
    netboot, steps = boot("uefi", link, servers)
    assert netboot.conclusion == ""
    assert [step.what for step in steps if step.result == "warning"] == ["address"]
    [discover] = link.sent
    assert discover.giaddr == "10.0.0.99"
    assert RelaySuboption.RELAY_SOURCE_PORT in relay_agent(discover.options[Option.RELAY_AGENT_INFORMATION])
    assert servers.requests[0][1].giaddr == "0.0.0.0"


@pytest.mark.parametrize(
    ("on_this_host", "advice"), [(True, "give one of them with --interface"), (False, "(RFC 8357): run this as root")]
)
def test_missing_offer_to_a_relay_has_advice(on_this_host: bool, advice: str) -> None:
    """A server socket that is bound to an interface doesn't receive what the probe sends to 127.0.0.1 on one host."""
    link = FakeLink([], relay="10.0.0.99", unprivileged_relay=True, on_this_host=on_this_host)
    netboot, _ = boot("uefi", link, FakeServers())
    assert netboot.conclusion.endswith(advice)


def test_lost_packets_are_a_warning() -> None:
    servers = FakeServers({"a.efi": evolve(EFI, retries=3, notes=["the server announced 9 bytes and sent 8"])})
    _, steps = boot("uefi", [offer(DHCP, "10.0.0.50", "a.efi")], servers)
    warnings = [step.text for step in steps if step.result == "warning"]
    assert warnings == ["the server announced 9 bytes and sent 8", "packets are lost on the way"]


def test_server_on_this_host_has_the_address_that_its_clients_use() -> None:
    """The probe sends to a loopback address, which the server then uses as its own in its replies."""
    message = Message(
        op=BOOTREPLY,
        xid=1,
        chaddr=bytes(6),
        siaddr="127.0.0.1",
        file=b"http://127.0.0.1:8069/boot.efi",
        options={54: b"\x7f\0\0\1", 67: b"http://127.0.0.1/boot.efi\0", 1: b"\x7f\0\0\1"},
    )
    received = _renamed(message, "127.0.0.1", "10.77.0.1")
    assert (received.siaddr, received.file) == ("10.77.0.1", b"http://10.77.0.1:8069/boot.efi")
    assert received.options == {54: b"\x0a\x4d\0\1", 67: b"http://10.77.0.1/boot.efi\0", 1: b"\x7f\0\0\1"}
    sent = _renamed(
        Message(op=BOOTREPLY, xid=1, chaddr=bytes(6), options={54: b"\x0a\x4d\0\1", 50: b"\x0a\x4d\0\x64"}),
        "10.77.0.1",
        "127.0.0.1",
    )
    assert sent.options == {54: b"\x7f\0\0\1", 50: b"\x0a\x4d\0\x64"}
    assert _renamed(message, "10.77.0.1", "10.77.0.1") is message


@pytest.mark.parametrize(
    ("server", "own_address", "other_addresses", "expected"),
    [
        ("10.77.0.1", "10.77.0.9", (), ("10.77.0.9", "10.77.0.1")),
        ("10.77.0.1", "10.77.0.1", ("10.77.0.1", "10.78.0.1"), ("10.78.0.1", "10.77.0.1")),
        ("10.77.0.1", "10.77.0.1", ("10.77.0.1",), ("10.77.0.1", "127.0.0.1")),
        ("127.0.0.1", "127.0.0.1", ("10.77.0.1",), ("10.77.0.1", "127.0.0.1")),
    ],
)
def test_relay_address_is_chosen_for_the_server(
    server: str,
    own_address: str,
    other_addresses: tuple[str, ...],
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dhcpclient, "own_address", lambda server: own_address)
    monkeypatch.setattr(dhcpclient, "own_addresses", lambda family: frozenset({"127.0.0.1", *other_addresses}))
    assert dhcpclient._relay_for(server) == expected
