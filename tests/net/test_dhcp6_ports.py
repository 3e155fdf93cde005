"""The proxy's DHCPv6 ports: complete exchanges, and failures."""

from collections.abc import Callable, Iterator

import pytest
from dhcpports import boot_server6_port
from firmware6 import IPXE, LINK_LOCAL, LINUX, MAC, OVMF, OVMF_HTTP, relayed
from narrowing import of_type, present
from twisted.internet.defer import Deferred

from bootfw.config.settings import DHCP6Settings
from bootfw.errors import BootRefused
from bootfw.events import DatagramsMalformed, OfferMade, OfferWithheld, RequestIgnored
from bootfw.interfaces import IBatchReceiver
from bootfw.net.linux.interfaces import Interfaces
from bootfw.values import BootFile, BootRequest, Via
from bootfw.wire.dhcp6 import MessageType, Relay, pack
from bootfw.wire.options6 import Option, vendor_class

from .lab6 import CLIENT, DUID, Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.chain.cancel_all()
    lab.protocol.close()
    assert lab.network.clock.getDelayedCalls() == []


def test_port_is_a_batch_receiver(lab: Lab) -> None:
    assert IBatchReceiver.providedBy(lab.protocol)


def test_edk2_is_advertised_a_boot_server_and_no_address(lab: Lab) -> None:
    reply = lab.reply_to(OVMF.message())
    assert reply.kind is MessageType.ADVERTISE
    assert reply.first(Option.IA_NA) is None
    assert reply.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/efi/snponly.efi"
    assert vendor_class(present(reply.first(Option.VENDOR_CLASS))) == (343, (b"PXEClient",))
    assert reply.first(Option.BOOTFILE_PARAMETERS) is None
    (event,) = lab.events_of(OfferMade)
    assert (event.message, event.destination) == ("ADVERTISE", CLIENT)
    assert of_type(BootFile, event.file).name == "tftp://[fd77::1]/efi/snponly.efi"
    assert event.request.mac == MAC


def test_edk2_boots_by_http_without_a_boot_server(lab: Lab) -> None:
    reply = lab.reply_to(OVMF_HTTP.message())
    assert reply.kind is MessageType.ADVERTISE
    assert reply.first(Option.BOOTFILE_URL) == b"http://[fd77::1]:8069/x.efi"
    vendor_class_data = present(reply.first(Option.VENDOR_CLASS))
    assert vendor_class_data[6:] == b"HTTPClient"
    assert vendor_class(vendor_class_data) == (343, (b"HTTPClient",))


def test_an_ignored_client_gets_no_reply(lab: Lab) -> None:
    lab.protocol.family.settings = DHCP6Settings(ignore=(MAC,))
    assert lab.replies_to(OVMF.message()) == []
    (ignored,) = lab.events_of(RequestIgnored)
    assert (ignored.mac, ignored.reason) == (MAC, "the configuration has its hardware address in ignore")


def test_ipxe_without_an_address_gets_no_reply_of_a_proxy(lab: Lab) -> None:
    assert lab.replies_to(IPXE.message()) == []
    (ignored,) = lab.events_of(RequestIgnored)
    assert "from no proxy" in ignored.reason


def test_ipxe_with_its_own_address_gets_the_boot_file_by_information_request(lab: Lab) -> None:
    reply = lab.reply_to(IPXE.message(MessageType.INFORMATION_REQUEST, ia=None))
    assert reply.kind is MessageType.REPLY
    assert reply.first(Option.BOOTFILE_URL) == f"http://[fd77::1]:8069/{MAC}.ipxe".encode()
    assert reply.first(Option.VENDOR_CLASS) is None


def test_client_without_a_duid_gets_a_reply(lab: Lab) -> None:
    message = IPXE.changed({1: None}).message(MessageType.INFORMATION_REQUEST, ia=None)
    ((reply, _, _),) = lab.replies_to(message)
    assert reply.first(Option.CLIENT_ID) is None
    assert reply.first(Option.SERVER_ID) == DUID


@pytest.mark.parametrize("kind", [MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.CONFIRM])
def test_other_messages_are_ignored_by_a_proxy(lab: Lab, kind: MessageType) -> None:
    assert lab.replies_to(OVMF.message(kind, (Option.SERVER_ID, b"other"))) == []
    assert lab.events == []


def test_installed_systems_get_no_reply_of_a_proxy(lab: Lab) -> None:
    assert lab.replies_to(LINUX.message()) == []
    assert lab.replies_to(LINUX.message(MessageType.INFORMATION_REQUEST, ia=None)) == []
    assert [event.mac for event in lab.events_of(RequestIgnored)] == [MAC, MAC]


def test_the_boot_server_replies_to_the_port_of_the_client() -> None:
    lab = Lab(boot_server6_port)
    peer = ("fd77::100", 4011, 0, 0)
    message = OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, DUID), ia=None)
    reply = lab.reply_to(message, peer, Via("fd77::1", 2, "fd77::1"))
    assert (reply.kind, reply.first(Option.BOOTFILE_URL)) == (MessageType.REPLY, b"tftp://[fd77::1]/efi/snponly.efi")
    assert reply.first(Option.VENDOR_CLASS) is None


def test_boot_server_sends_its_reply_again_for_edk2() -> None:
    lab = Lab(boot_server6_port)
    message = OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, DUID), ia=None)
    first = lab.replies_to(message, ("fd77::100", 4011, 0, 0), Via("fd77::1", 2, "fd77::1"))
    assert len(first) == 1
    assert lab.repeated(0.1) == first
    assert lab.repeated(0.8) == []
    assert lab.repeated(0.2) == first
    assert lab.repeated() == []
    assert lab.network.clock.getDelayedCalls() == []
    assert len(lab.events_of(OfferMade)) == 1


@pytest.mark.parametrize(("name", "repeats"), [("x", 2), ("x" * 100, 1), ("x" * 200, 0)])
def test_repeated_replies_share_the_limit_of_one_reply(name: str, repeats: int) -> None:
    lab = Lab(boot_server6_port)
    lab.resolver.files["uefi-v6"] = name
    message = OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, DUID), ia=None)
    lab.reply_to(message, ("fd77::100", 4011, 0, 0), Via("fd77::1", 2, "fd77::1"))
    assert len(lab.repeated()) == repeats


def test_reply_over_the_limit_is_not_repeated_to_a_relay() -> None:
    """A reply to a relay may be longer than three times its request; then it is sent once."""
    lab = Lab(boot_server6_port)
    lab.resolver.files["uefi-v6"] = "x" * 250
    short = OVMF.changed({1: None, 6: None, 8: None, 62: None})
    message = short.message(MessageType.REQUEST, (Option.SERVER_ID, DUID), ia=None)
    data = relayed(message, Relay(0, "fd78::1", LINK_LOCAL))
    replies = lab.replies_to(data, ("fd78::1", 547, 0, 0), Via("fd77::1", 2, "fd77::1"))
    [(reply, relays, _)] = replies
    assert len(pack(reply, relays)) > 3 * len(data)
    assert lab.repeated() == []


def test_closed_boot_server_sends_no_repeats() -> None:
    lab = Lab(boot_server6_port)
    lab.replies_to(OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, DUID), ia=None))
    lab.protocol.close()
    assert lab.network.clock.getDelayedCalls() == []


def test_a_proxy_repeats_nothing_on_its_dhcp_port(lab: Lab) -> None:
    lab.reply_to(OVMF.message())
    assert lab.repeated() == []


def test_the_boot_server_ignores_requests_to_another_one() -> None:
    lab = Lab(boot_server6_port)
    assert lab.replies_to(OVMF.message(MessageType.REQUEST, (Option.SERVER_ID, b"other"), ia=None)) == []
    assert lab.events == []


def test_relay_options_are_echoed(lab: Lab) -> None:
    inner = Relay(0, "::", LINK_LOCAL, ((18, b"port 3"), (79, b"\0\1RT\0\0\0\x09")))
    outer = Relay(1, "fd78::1", "fe80::1", ((37, b"\0\0\0\x09id"), (38, b"subscriber")))
    peer = ("fd78::1", 51000, 0, 0)
    data = relayed(OVMF.message(), outer, inner)
    ((reply, relays, destination),) = lab.replies_to(data, peer, Via("fd77::1", 2, "fd77::1"))
    assert reply.kind is MessageType.ADVERTISE
    assert relays == (outer, Relay(0, "::", LINK_LOCAL, ((18, b"port 3"),)))
    assert destination == ("fd78::1", 547, 0, 0)
    assert lab.resolver.requests[0].mac == "52:54:00:00:00:09"


def test_relay_gets_the_reply_on_its_source_port(lab: Lab) -> None:
    relay = Relay(0, "fd78::1", LINK_LOCAL, ((135, b"\0\0"),))
    ((_, _, destination),) = lab.replies_to(relayed(OVMF.message(), relay), ("fd78::1", 51000, 0, 0))
    assert destination == ("fd78::1", 51000, 0, 0)


def test_relay_replies_and_malformed_messages_are_counted(lab: Lab) -> None:
    assert lab.replies_to(pack(OVMF.message(), [Relay(0, "::", "::")])) == []
    assert lab.replies_to(b"\1") == []
    assert lab.events_of(DatagramsMalformed)[0].reason == "a server's answer to a relay"


def test_boot_file_is_withheld_without_a_server_address() -> None:
    lab = Lab(server="")
    assert lab.replies_to(OVMF.message(), via=Via("", 999_999, "ff02::1:2")) == []
    (withheld,) = lab.events_of(OfferWithheld)
    assert "has no IPv6 address for clients to come to" in withheld.reason


def test_messages_on_unserved_interfaces_are_ignored() -> None:
    lab = Lab(interfaces=Interfaces(["eth9"]))
    assert lab.replies_to(OVMF.message(), via=Via("", 1, "ff02::1:2")) == []
    assert lab.events == []


def test_repeated_request_is_answered_once(lab: Lab) -> None:
    pending: list[Deferred[BootFile]] = []

    def resolve(request: BootRequest) -> Deferred[BootFile]:
        pending.append(Deferred())
        return pending[-1]

    lab.resolver.files["uefi-v6"] = resolve
    assert lab.replies_to(OVMF.message()) == []
    assert lab.replies_to(OVMF.message()) == []
    (resolution,) = pending
    resolution.callback(BootFile("late.efi"))
    ((reply, _, _),) = lab.sent
    assert reply.first(Option.BOOTFILE_URL) == b"tftp://[fd77::1]/late.efi"


def _refuse(request: BootRequest) -> None:
    raise BootRefused("not today")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (None, "no resolver has a file for it"),
        (_refuse, "not today"),
        ("https://elsewhere/x.efi", "loads by TFTP only"),
        (BootFile("x.efi", server="10.0.0.1"), "is no IPv6 address"),
        ("{nobody}", None),
    ],
)
def test_files_that_edk2_cannot_load_are_withheld(
    lab: Lab, file: str | BootFile | Callable[[BootRequest], None] | None, reason: str | None
) -> None:
    lab.resolver.files["uefi-v6"] = file
    replies = lab.replies_to(OVMF.message())
    if reason is None:
        assert replies
    else:
        assert replies == []
        assert reason in lab.events_of(OfferWithheld)[0].reason


def test_boot_file_may_be_on_another_server(lab: Lab) -> None:
    lab.resolver.files["uefi-v6"] = BootFile("x.efi", server="fd77::9")
    assert lab.reply_to(OVMF.message()).first(Option.BOOTFILE_URL) == b"tftp://[fd77::9]/x.efi"
    lab.resolver.files["uefi-v6"] = BootFile("tftp://[fd77::8]/y.efi")
    assert lab.reply_to(OVMF.message()).first(Option.BOOTFILE_URL) == b"tftp://[fd77::8]/y.efi"


def test_closing_cancels_pending_resolutions() -> None:
    lab = Lab()
    cancelled: list[Deferred[None]] = []
    lab.resolver.files["uefi-v6"] = lambda request: Deferred(cancelled.append)
    lab.replies_to(OVMF.message())
    lab.protocol.close()
    assert len(cancelled) == 1
    assert lab.network.clock.getDelayedCalls() == []
