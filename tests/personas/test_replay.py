"""Clients that are not available for tests, replayed packet by packet, and the replies that they need.

The source of each packet is named at its test and in tests/firmware.py. The whole server answers: DHCP, the boot server
and TFTP, with the personas that come with bootfw.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from socket import inet_aton

import firmware
import pytest
from attrs import evolve
from replaylab import ADDRESS, SERVER, Lab
from tftpserver import Files, numbered

from bootfw.backends.directory import DirectoryBackend
from bootfw.events import RequestIgnored
from bootfw.personas.rule import Rule
from bootfw.wire import pxe, tftp
from bootfw.wire.dhcp4 import Message, MessageType

MISSING = [tftp.Error(1, "File not found")]


StartLab = Callable[..., Lab]
"""Starts a Lab with these files and personas."""


@pytest.fixture
def start() -> Iterator[StartLab]:
    """Starts labs, and stops them at the end."""
    started: list[Lab] = []

    def start_lab(
        files: dict[str, bytes] | tuple[()] | DirectoryBackend = (),
        *,
        server: bool = False,
        own_personas: tuple[Rule, ...] = (),
    ) -> Lab:
        backend = Files(dict(files)) if isinstance(files, dict | tuple) else files
        started.append(Lab(backend, server, own_personas))
        return started[-1]

    yield start_lab
    for lab in started:
        lab.stop()


def request(client: firmware.Client, offer: Message) -> Message:
    """The REQUEST that takes *offer*."""
    changed = {53: firmware.REQUEST, 50: inet_aton(offer.yiaddr), 54: inet_aton(SERVER)}
    return client.message(options={**client.options, **changed})


# Raspberry Pi 3: raspberrypi/documentation, net.md, and Plan 9's log of one (9netics)


@pytest.mark.parametrize("server", [False, True], ids=["proxy", "server"])
def test_a_pi_3_boots_with_only_an_offer(start: StartLab, server: bool) -> None:
    """The Pi recognizes option 43, takes address and next server from the OFFER and never sends a REQUEST."""
    files = {"bootcode.bin": numbered(52_480), "start.elf": numbered(1000), "config.txt": b"x"}
    lab = start(files, server=server)

    offer = lab.discovers(firmware.RASPBERRY_PI_3)
    assert b"Raspberry Pi Boot   " in offer.options[43]
    assert pxe.parse(offer.options[43]).menu == (pxe.MenuItem(0, "Raspberry Pi Boot   "),)
    assert offer.options[60] == b"PXEClient"
    assert (offer.siaddr, offer.options[66]) == (SERVER, SERVER.encode())
    assert offer.yiaddr == (ADDRESS if server else "0.0.0.0")
    assert lab.offers[0].request.architecture == "arm-rpiboot"

    # It requests without options, and sends an ERROR after the first block to find out whether a file exists.
    probe = lab.request_file("bootcode.bin")
    assert probe.replies == [tftp.Data(1, numbered(512))]
    probe.send(tftp.error(0, ""))
    assert lab.request_file("bootcode.bin").receive_rest(512) == files["bootcode.bin"]
    assert lab.request_file("bootsig.bin").replies == MISSING
    # The directory of its serial number does not exist, so it requests the files at the root.
    assert lab.request_file("baadbaad/start.elf").replies == MISSING
    assert lab.request_file("config.txt").receive_rest(512) == b"x"
    assert lab.request_file("start.elf").receive_rest(512) == files["start.elf"]
    assert lab.outcomes == ["STOPPED_BY_PEER", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_pi_3_requests_five_times_and_gets_the_same_address(start: StartLab) -> None:
    lab = start(server=True)

    offers = []
    for _ in range(5):
        offers.append(lab.discovers(firmware.RASPBERRY_PI_3))
        lab.network.advance(5)
    assert {offer.yiaddr for offer in offers} == {ADDRESS}


# Raspberry Pi 4 and 5: raspberrypi/documentation, eeprom-bootloader.adoc


@pytest.mark.parametrize("prefix", ["9ffefdef/", "dc-a6-32-01-36-c2/"])
def test_a_pi_4_has_a_directory_of_its_own(start: StartLab, prefix: str) -> None:
    """The Pi finds its directory, by serial number or MAC, if start4.elf or start.elf is in it."""
    lab = start({f"{prefix}start4.elf": numbered(3000), f"{prefix}config.txt": b"x"}, server=True)

    offer = lab.discovers(firmware.RASPBERRY_PI_4)
    assert pxe.parse(offer.options[43]).menu == (pxe.MenuItem(0, "Raspberry Pi Boot"),)
    [ack] = lab.send(request(firmware.RASPBERRY_PI_4, offer))
    assert ack.message_type is MessageType.ACK
    assert (ack.options[43], ack.options[66]) == (offer.options[43], SERVER.encode())

    options = (("tsize", "0"), ("blksize", "1024"))
    assert lab.request_file(f"{prefix}start4.elf", *options).receive_rest(1024) == numbered(3000)
    assert lab.request_file(f"{prefix}cmdline.txt", *options).replies == MISSING
    assert lab.request_file(f"{prefix}config.txt", *options).receive_rest(1024) == b"x"


def test_a_pi_with_uefi_on_it_is_a_uefi_machine(start: StartLab) -> None:
    lab = start()
    client = evolve(firmware.AAVMF, chaddr=firmware.PI_4_MAC)

    lab.send(client.message())  # by-architecture has no file for arm64 here
    assert lab.offers == []
    assert next(event.request.persona for event in lab.events if hasattr(event, "request")) == "uefi"


# Windows' boot manager: wireshark packet-tftp.c for msftwindow; windows-itpro-docs pull request 5121 for its names


@pytest.fixture
def windows(tmp_path: Path) -> DirectoryBackend:
    (tmp_path / "boot/Fonts").mkdir(parents=True)
    (tmp_path / "sources").mkdir()
    (tmp_path / "boot/bcd").write_bytes(numbered(20_000))
    (tmp_path / "boot/Fonts/wgl4_boot.ttf").write_bytes(b"font")
    (tmp_path / "sources/boot.wim").write_bytes(numbered(100_000))
    return DirectoryBackend(tmp_path)


def test_windows_gets_no_msftwindow_and_uses_windowsize(start: StartLab, windows: DirectoryBackend) -> None:
    lab = start(windows)
    options = (("tsize", "0"), ("blksize", "1456"), ("windowsize", "4"), ("msftwindow", "31416"))

    client = lab.request_file("\\Boot\\BCD", *options)
    assert client.replies == [tftp.OptionAck((("tsize", "20000"), ("blksize", "1456"), ("windowsize", "4")))]
    assert client.receive_rest(1456, 4) == numbered(20_000)
    lab.request_file("sources/boot.wim", ("tsize", "0")).send(tftp.error(0, "size is all I want"))
    assert [report.persona for report in lab.reports] == ["windows", ""]


def test_an_ack_of_five_bytes_is_an_ack(start: StartLab, windows: DirectoryBackend) -> None:
    """A client sends it that takes its msftwindow to be granted although the OACK lacks it."""
    lab = start(windows)
    client = lab.request_file("\\sources\\boot.wim", ("blksize", "1456"), ("windowsize", "4"), ("msftwindow", "31416"))

    assert client.receive_rest(1456, 4, tail=b"\4") == numbered(100_000)


@pytest.mark.parametrize(
    "name", ["\\Boot\\Fonts\\wgl4_boot.ttf", "/Boot\\fonts\\WGL4_BOOT.TTF", "Boot\\\\Fonts\\wgl4_boot.ttf"]
)
def test_windows_may_request_backslashes_and_other_case(start: StartLab, windows: DirectoryBackend, name: str) -> None:
    assert start(windows).request_file(name, ("tsize", "0"), ("blksize", "1456")).receive_rest(1456) == b"font"


# BIOS ROMs: the syslinux list, February 2008; bugs.uclibc.org 6146; netboot.xyz issue 1198


def test_a_rom_requests_the_size_first(start: StartLab) -> None:
    """3Com and Intel: RRQ with tsize, ERROR, RRQ with blksize 1456, twice since the first answer took long."""
    lab = start({"pxelinux.0": numbered(26_460)})

    offer = lab.discovers(firmware.BIOS_ROM)
    assert (offer.options[43], offer.file) == (b"\6\1\x08\xff", b"pxelinux.0")
    probe = lab.request_file("pxelinux.0", ("tsize", "0"))
    assert probe.replies == [tftp.OptionAck((("tsize", "26460"),))]
    probe.send(tftp.error(0, "TFTP Aborted"))
    assert lab.request_file("pxelinux.0", ("blksize", "1456")).receive_rest(1456) == numbered(26_460)
    assert lab.outcomes == ["SIZE_PROBE", "COMPLETE"]


@pytest.mark.parametrize("name", [b"pxelinux.0\xff", b"/pxelinux.0\xff\xd13*G"])
def test_a_rom_requests_a_name_with_trailing_bytes(start: StartLab, name: bytes) -> None:
    """The ROM reads on behind a boot file name that the DHCP server has not ended with a NUL."""
    lab = start({"pxelinux.0": numbered(600)})

    text = name.decode("utf-8", "surrogateescape")
    assert lab.request_file(text, ("tsize", "0")).replies == [tftp.OptionAck((("tsize", "600"),))]


def test_a_rom_that_can_not_use_the_block_size_that_it_requests(start: StartLab) -> None:
    """dnsmasq has --tftp-no-blocksize for such ROMs; here a rule applies to those of one vendor only."""
    rom = Rule(name="old-rom", oui=("00:a0:c9",), refuse_options=["blksize"])
    lab = start({"pxelinux.0": numbered(2000)}, server=True, own_personas=(rom,))
    client = evolve(firmware.BIOS_ROM, chaddr=bytes.fromhex("00a0c9000001"))

    offer = lab.discovers(client)
    lab.send(request(client, offer))
    assert offer.yiaddr == ADDRESS
    assert lab.request_file("pxelinux.0", ("blksize", "1456")).receive_rest(512) == numbered(2000)


# Network gear: RFC 5859; vincent.bernat.ch, 2020, for Junos


@pytest.mark.parametrize("client", firmware.NETWORK_GEAR, ids=lambda client: client.name)
def test_a_proxy_ignores_network_gear(start: StartLab, client: firmware.Client) -> None:
    lab = start()

    assert lab.send(client.message()) == []
    assert "network gear" in next(event.reason for event in lab.events if isinstance(event, RequestIgnored))


@pytest.mark.parametrize("client", firmware.NETWORK_GEAR, ids=lambda client: client.name)
def test_network_gear_gets_its_server_in_every_option_and_no_boot_program(
    start: StartLab, client: firmware.Client
) -> None:
    lab = start({"network-confg": b"hostname switch\n"}, server=True)

    offer = lab.discovers(client)
    [ack] = lab.send(request(client, offer))
    for answer in (offer, ack):
        assert (answer.options[66], answer.options[150]) == (SERVER.encode(), inet_aton(SERVER))
        assert answer.options[67].rstrip(b"\0") == answer.file == b"network-confg"
        assert not {43, 60} & answer.options.keys()
    assert lab.request_file("network-confg").receive_rest(512) == b"hostname switch\n"


def test_unconfigured_network_gear_gets_its_address_and_no_log_line(
    start: StartLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replaylab.FILES", {"unknown": "undionly.kpxe", "x86-bios": "pxelinux.0"})
    lab = start(server=True)

    offer = lab.discovers(firmware.CISCO_TELEPHONE)
    assert offer.yiaddr == ADDRESS
    assert not {43, 60, 66, 67, 150} & offer.options.keys()
    assert [type(event).__name__ for event in lab.events if "Withheld" in type(event).__name__] == []


# FreeBSD's loader: stand/libsa/bootp.c


def test_a_proxy_ignores_freebsds_loader(start: StartLab) -> None:
    """It would take the OFFER of a proxy for an OFFER with an address."""
    assert start().send(firmware.FREEBSD_LOADER.message()) == []


def test_freebsds_loader_gets_its_address_and_its_files(start: StartLab) -> None:
    lab = start({"boot/kernel/kernel": numbered(5000)}, server=True)
    offer = lab.discovers(firmware.FREEBSD_LOADER)
    [ack] = lab.send(request(firmware.FREEBSD_LOADER, offer))

    assert (ack.yiaddr, ack.siaddr) == (ADDRESS, SERVER)
    options = (("blksize", "1428"), ("tsize", "0"))
    assert lab.request_file("/boot/kernel/kernel", *options).receive_rest(1428) == numbered(5000)
    assert lab.request_file("/boot/kernel/kernel.gz", *options).replies == MISSING


# Rules for every reply


@pytest.mark.parametrize(
    "client",
    [*firmware.BOOT_CLIENTS, *firmware.U_BOOTS, *firmware.NETWORK_GEAR, firmware.FREEBSD_LOADER],
    ids=lambda client: client.name,
)
def test_pxe_offers_have_discovery_control(start: StartLab, client: firmware.Client) -> None:
    """Option 60 "PXEClient" without option 43 sends EDK2 to port 4011 (UefiPxeBcDxe/PxeBcDhcp4.c)."""
    offer = start(server=True).discovers(client)

    assert (offer.options.get(60) == b"PXEClient") <= (43 in offer.options)
