"""The personas that come with bootfw, and the reader of their table."""

import tomllib
from importlib.resources import files

import pytest

from bootfw.errors import ConfigError
from bootfw.personas.table import Personas, read, stock
from bootfw.values import OfferStyle, Persona
from bootfw.wire.iana import ARCHITECTURES

BIOS = {"name": "bios", "vendor-class": "PXEClient", "architectures": ["x86-bios"], "offer": "file-in-offer"}


def matched(vendor_class: str, architecture: str = "x86-bios", ipxe: bool = False) -> str | None:
    persona = stock().match(vendor_class, architecture, ipxe)
    return persona and persona.name


@pytest.mark.parametrize(
    ("client", "persona"),
    [
        (("PXEClient", "x86-bios"), "pxe-bios"),
        (("PXEClient:Arch:00000:UNDI:002001", "x86-bios"), "pxe-bios"),
        (("PXEClient", "pc98"), "pxe-bios"),
        (("PXEClient", "unknown"), "pxe-bios"),
        (("PXEClient", "x86_64-uefi"), "uefi"),
        (("PXEClient", "arch-99"), "uefi"),
        (("PXEClient", "x86-bios", True), "ipxe"),
        (("PXEClient", "x86_64-uefi", True), "ipxe"),
        (("HTTPClient:Arch:00016", "x86_64-uefi-http"), "uefi-http"),
        (("U-Boot.armv8", "arm64-uboot"), "u-boot"),
        (("", "ppc-open-firmware"), "open-firmware"),
        (("PXEClient", "ppc-open-firmware"), "uefi"),
        (("", "s390-extended"), "open-firmware"),
        (("pxeclient", "x86-bios"), None),
        (("", "x86-bios"), None),
        (("", "x86-bios", True), None),
        (("MSFT 5.0", "unknown"), None),
    ],
)
def test_stock(client, persona):
    assert matched(*client) == persona


def test_stock_says_where_each_quirk_was_seen():
    table = tomllib.loads(files("bootfw.personas").joinpath("stock.toml").read_text())

    assert all(entry["source"] for entry in table["persona"])


def test_stock_names_only_architectures_that_there_are():
    named = {name for rule in stock().rules for name in rule.architectures}

    assert named - {"unknown"} <= set(ARCHITECTURES.values())


def test_offers_are_told_by_name():
    assert {rule.persona.name: stock().offer(rule.persona.name) for rule in stock().rules} == {
        "ipxe": OfferStyle.PLAIN_FILE,
        "uefi-http": OfferStyle.PLAIN_FILE,
        "pxe-bios": OfferStyle.FILE_IN_OFFER,
        "uefi": OfferStyle.BOOT_SERVER,
        "u-boot": OfferStyle.NONE,
        "open-firmware": OfferStyle.NONE,
    }


def test_the_first_that_holds_decides():
    personas = read(
        {"persona": [BIOS, {"name": "rest", "offer": "boot-server"}, {"name": "late", "offer": "plain-file"}]}
    )

    assert personas.match("PXEClient", "x86-bios", False) == Persona("bios", OfferStyle.FILE_IN_OFFER)
    assert personas.match("PXEClient", "x86-uefi", False) == Persona("rest", OfferStyle.BOOT_SERVER)


@pytest.mark.parametrize(("wanted", "ipxe", "holds"), [(True, True, True), (True, False, False), (False, True, False)])
def test_ipxe_can_be_asked_for_and_against(wanted, ipxe, holds):
    personas = read({"persona": [{"name": "x", "offer": "plain-file", "ipxe": wanted}]})

    assert (personas.match("", "unknown", ipxe) is not None) is holds


def test_names_of_ipxe_programs_and_their_exceptions():
    personas = read({"ipxe-programs": {"names": ["*.kpxe"], "except": ["own*"]}})

    assert [personas.is_ipxe_program(name) for name in ("a.kpxe", "A.KPXE", "own.kpxe", "a.0")] == [
        True,
        True,
        False,
        False,
    ]


def test_an_empty_table():
    assert read({}) == Personas(())


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"persona": {}}, "persona"),
        ({"persona": ["x"]}, "persona[0]"),
        ({"persona": [BIOS, {"offer": "none"}]}, "persona[1].name"),
        ({"persona": [BIOS, BIOS]}, "persona[1].name"),
        ({"persona": [{**BIOS, "name": 5}]}, "persona[0].name"),
        ({"persona": [{**BIOS, "architecture": "x"}]}, "persona[0].architecture"),
        ({"persona": [{**BIOS, "architectures": "x"}]}, "persona[0].architectures"),
        ({"persona": [{**BIOS, "architectures": [5]}]}, "persona[0].architectures"),
        ({"persona": [{**BIOS, "vendor-class": 5}]}, "persona[0].vendor-class"),
        ({"persona": [{**BIOS, "ipxe": "yes"}]}, "persona[0].ipxe"),
        ({"persona": [{**BIOS, "offer": "menu"}]}, "persona[0].offer"),
        ({"persona": [{**BIOS, "offer": ["none"]}]}, "persona[0].offer"),
        ({"persona": [{**BIOS, "offer": "none"}]}, "persona[0].reason"),
        ({"persona": [{**BIOS, "reason": "because"}]}, "persona[0].reason"),
        ({"ipxe-programs": {"names": "x"}}, "ipxe-programs.names"),
        ({"ipxe-programs": []}, "ipxe-programs"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(table, path):
    with pytest.raises(ConfigError) as caught:
        read(table)

    assert str(caught.value).startswith(f"{path}: ")
