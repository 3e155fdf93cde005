"""The names of files: patterns, and the identifiers in the names that PXELINUX and GRUB search for."""

import pytest

from bootfw.backends.names import Identifiers, Pattern, mac_address, searched

MAC = "52:54:00:ab:cd:ef"
UUID = "52420077-1234-4abc-9def-0123456789ab"


@pytest.mark.parametrize(
    ("path", "identifiers"),
    [
        ("pxelinux.cfg/01-52-54-00-ab-cd-ef", Identifiers(mac=MAC)),
        ("boot/pxelinux.cfg/01-52-54-00-ab-cd-ef", Identifiers(mac=MAC)),
        (f"pxelinux.cfg/{UUID}", Identifiers(uuid=UUID)),
        ("pxelinux.cfg/0A4D0064", Identifiers(address="10.77.0.100")),
        ("pxelinux.cfg/0A4D006", Identifiers()),
        ("pxelinux.cfg/default", Identifiers()),
        ("grub/grub.cfg-01-52-54-00-ab-cd-ef", Identifiers(mac=MAC)),
        ("grub.cfg-0A4D0064", Identifiers(address="10.77.0.100")),
        ("grub.cfg", Identifiers()),
        ("notpxelinux.cfg/01-52-54-00-ab-cd-ef", Identifiers()),
        ("pxelinux.cfg/01-52-54-00-ab-cd-ef/more", Identifiers()),
    ],
)
def test_candidate_names_of_a_client(path: str, identifiers: Identifiers) -> None:
    assert searched(path) == identifiers


def test_a_uuid_may_be_in_either_order_of_bytes() -> None:
    """PXELINUX prints the bytes as they are on the wire (captured from Debian 12's 6.04)."""
    assert UUID in searched("pxelinux.cfg/77004252-3412-bc4a-9def-0123456789ab").keys


@pytest.mark.parametrize("text", ["52:54:00:AB:cd:ef", "52-54-00-ab-cd-ef", "525400abcdef"])
def test_spellings_of_a_mac(text: str) -> None:
    assert mac_address(text) == MAC


@pytest.mark.parametrize("text", ["", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:01", "52:54:00:ab:cd:eg"])
def test_invalid_mac_is_empty(text: str) -> None:
    assert mac_address(text) == ""


@pytest.mark.parametrize(
    ("pattern", "path", "identifiers"),
    [
        ("boot.ipxe", "boot.ipxe", Identifiers()),
        ("boot.ipxe", "bootxipxe", None),
        ("pxelinux.cfg/*", "pxelinux.cfg/default", Identifiers()),
        ("pxelinux.cfg/*", "pxelinux.cfg/a/b", None),
        ("grub.cfg*", "grub.cfg", Identifiers()),
        ("m/{mac}.ipxe", "m/52-54-00-AB-CD-EF.ipxe", Identifiers(mac=MAC)),
        ("m/{mac}.ipxe", "m/web1.ipxe", None),
        ("m/{uuid}", f"m/{UUID.upper()}", Identifiers(uuid=UUID)),
        ("h/{name}/*.cfg", "h/web1/a.cfg", Identifiers(name="web1")),
        ("h/{name}", "h/a/b", None),
    ],
)
def test_patterns_match_identifiers(pattern: str, path: str, identifiers: Identifiers | None) -> None:
    assert Pattern(pattern).match(path) == identifiers


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("{nope}", "unknown"), ("{mac}/{mac}", "twice"), ("", "relative"), ("/x", "relative"), ("{}", "unknown")],
)
def test_invalid_patterns_are_errors(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Pattern(pattern)
