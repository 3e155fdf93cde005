"""Boot files that a client can use, and those that it can't."""

import firmware
import pytest
from firmware import Client
from narrowing import of_type

from bootfw.dhcp.bootfile import Unsuitable, adapt
from bootfw.dhcp.classify import classify
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootRequest, only_phase

PERSONAS = stock()


def adapted(
    client: Client, name: str, server: str | None = None, own_urls: tuple[str, str] = ("", "")
) -> BootFile | Unsuitable:
    request = classify(client.message(), PERSONAS.match, server="10.0.0.1", own_urls=own_urls)
    return adapt(BootFile(name, server), of_type(BootRequest, request), PERSONAS.is_ipxe_program)


def test_placeholders_are_filled_in_and_the_server_is_kept() -> None:
    assert adapted(firmware.OVMF, "{server}/{mac}.efi", "10.0.0.7") == BootFile(
        "10.0.0.1/52:54:00:12:34:56.efi", "10.0.0.7"
    )


def test_placeholder_without_a_client_value_is_refused() -> None:
    found = adapted(firmware.OVMF.changed({97: None}), "{uuid}.efi")

    assert isinstance(found, Unsuitable)
    assert "{uuid}" in found.reason


@pytest.mark.parametrize("name", ["", "a\0b", "n" * 255, "ä" * 128])
def test_invalid_names_are_refused(name: str) -> None:
    assert isinstance(adapted(firmware.OVMF, name), Unsuitable)


@pytest.mark.parametrize("name", ["n" * 254, "ä" * 127])
def test_longest_names_are_accepted(name: str) -> None:
    assert adapted(firmware.OVMF, name) == BootFile(name)


@pytest.mark.parametrize("server", ["", "boot.example", "fd77::1", "10.0.0"])
def test_server_must_be_an_address(server: str) -> None:
    found = adapted(firmware.OVMF, "bootx64.efi", server)

    assert isinstance(found, Unsuitable)
    assert "no IPv4 address" in found.reason


@pytest.mark.parametrize("name", ["http://10.0.0.1/x.efi", "HTTPS://boot.example/x.efi"])
def test_url_is_accepted_for_http_boot(name: str) -> None:
    assert adapted(firmware.OVMF_HTTP, name) == BootFile(name)


OWN_URLS = "http://10.0.0.1:8069", "https://boot.example:8443"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("bootx64.efi", "bootx64.efi"),
        ("/efi/boot/bootx64.efi", "efi/boot/bootx64.efi"),
        ("\\efi\\x.efi", "efi/x.efi"),
        ("{mac}/a b#c?.efi", "52:54:00:12:34:56/a%20b%23c%3F.efi"),
        ("ä.efi", "%C3%A4.efi"),
    ],
)
def test_path_becomes_a_url_of_the_http_server(name: str, url: str) -> None:
    assert adapted(firmware.OVMF_HTTP, name, own_urls=OWN_URLS) == BootFile(f"{OWN_URLS[0]}/{url}")
    assert adapted(firmware.OVMF_HTTP, name, own_urls=("", OWN_URLS[1])) == BootFile(f"{OWN_URLS[1]}/{url}")


def test_path_too_long_as_a_url_is_refused() -> None:
    found = adapted(firmware.OVMF_HTTP, "n" * 250, own_urls=OWN_URLS)
    assert isinstance(found, Unsuitable)
    assert "room for 254" in found.reason


def test_path_on_another_server_is_refused_for_http_boot() -> None:
    assert isinstance(adapted(firmware.OVMF_HTTP, "bootx64.efi", "10.0.0.7", OWN_URLS), Unsuitable)


def test_http_boot_needs_an_http_server() -> None:
    found = adapted(firmware.OVMF_HTTP, "bootx64.efi")
    assert isinstance(found, Unsuitable)
    assert "[http] listen" in found.reason


@pytest.mark.parametrize("client", [firmware.OVMF, firmware.IPXE_ROM], ids=lambda client: client.name)
def test_path_is_accepted_for_tftp_clients(client: Client) -> None:
    assert adapted(client, "bootx64.efi", own_urls=OWN_URLS) == BootFile("bootx64.efi")


@pytest.mark.parametrize("name", ["tftp://10.0.0.1/bootx64.efi", "/srv/http://x"])
def test_other_names_are_refused_for_http_boot(name: str) -> None:
    found = adapted(firmware.OVMF_HTTP, name)

    assert isinstance(found, Unsuitable)
    assert '[resolver.files] "x86_64-uefi-http"' in found.reason


def test_hint_for_http_boot_names_an_existing_key() -> None:
    client = firmware.edk2(99, "HTTPClient")

    found = adapted(client, "tftp://10.0.0.1/bootx64.efi")

    assert isinstance(found, Unsuitable)
    assert '"arch-99"' in found.reason


@pytest.mark.parametrize("client", [firmware.BIOS_ROM, firmware.OVMF], ids=lambda client: client.name)
@pytest.mark.parametrize("name", ["http://10.0.0.1/boot.ipxe", "tftp://10.0.0.1/x.efi"])
def test_url_is_refused_for_pxe_firmware(client: Client, name: str) -> None:
    found = adapted(client, name)

    assert isinstance(found, Unsuitable)
    assert "TFTP only" in found.reason


@pytest.mark.parametrize(
    "name", ["boot.ipxe", "http://10.0.0.1/boot.ipxe", "tftp://10.0.0.1/x", "pxelinux.0", "ftp://x/y"]
)
def test_path_and_url_are_accepted_for_ipxe(name: str) -> None:
    assert adapted(firmware.IPXE_ROM, name) == BootFile(name)


# The chain-loading loop


@pytest.mark.parametrize(
    "name",
    [
        "undionly.kpxe",
        "/boot/Undionly-2024.kpxe",
        "snponly.efi",
        "snponly-arm64.efi",
        "ipxe.efi",
        "x86\\IPXE.EFI",
        "ipxe-i386.efi",
        "ipxe.lkrn",
        "own.kkpxe",
        "http://10.0.0.1/ipxe/ipxe.efi?for=me",
        "http://10.0.0.1/undionly.kpxe#top",
    ],
)
def test_ipxe_is_not_sent_ipxe(name: str) -> None:
    found = adapted(firmware.SNPONLY, name)

    assert isinstance(found, Unsuitable)
    assert '[resolver.files] "ipxe"' in found.reason


@pytest.mark.parametrize(
    "name",
    [
        "pxelinux.0",
        "boot.ipxe",
        "autoexec.ipxe",
        "ipxe.php",
        "grubx64.efi",
        "ipxe/menu",
        "netboot.xyz.kpxe",
        "netboot.xyz.efi",
    ],
)
def test_ipxe_is_sent_other_files(name: str) -> None:
    assert adapted(firmware.SNPONLY, name) == BootFile(name)


@pytest.mark.parametrize("client", [firmware.BIOS_ROM, firmware.OVMF], ids=lambda client: client.name)
def test_firmware_is_sent_ipxe(client: Client) -> None:
    assert adapted(client, "snponly.efi") == BootFile("snponly.efi")


# What a build of iPXE can load


@pytest.mark.parametrize(
    ("features", "name", "supported"),
    [
        ((0x13,), "http://x/y", True),
        ((0x15,), "http://x/y", False),
        ((0x13,), "https://x/y", False),
        ((0x14,), "https://x/y", True),
        ((0x13,), "y", False),
        ((0x15,), "y", True),
        ((0x13,), "ftp://x/y", True),
        ((), "http://x/y", True),
    ],
)
def test_ipxe_gets_no_url_of_a_protocol_that_it_lacks(features: tuple[int, ...], name: str, supported: bool) -> None:
    client = firmware.IPXE_ROM.changed({175: firmware.ipxe_features(*features)})

    found = adapted(client, name)

    if supported:
        assert isinstance(found, BootFile)
    else:
        assert "option 175" in of_type(Unsuitable, found).reason


@pytest.mark.parametrize("raw", [None, b"", b"\x13\x05"])
def test_ipxe_without_feature_options_is_assumed_to_support_all_protocols(raw: bytes | None) -> None:
    assert adapted(firmware.IPXE_ROM.changed({175: raw}), "http://x/y") == BootFile("http://x/y")


def test_a_bootinfo_answer_is_not_a_boot_file_for_dhcp() -> None:
    found = adapted(firmware.OVMF, "bootinfo:partition:2")

    assert found == Unsuitable('"bootinfo:partition:2" is for a boot program that asks by bootinfo')


@pytest.mark.parametrize("name", ["de:ad:be:ef:00:01.efi", "http://10.0.0.1/a:b.efi", "C:boot.efi", "dir/abc:def"])
def test_a_name_may_have_a_colon(name: str) -> None:
    assert not isinstance(adapted(firmware.OVMF, name.replace("http://10.0.0.1/", "")), Unsuitable)
    assert only_phase(name) == ""
