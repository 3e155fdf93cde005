"""The personas that come with bootfw, and those of an operator."""

import tomllib
from collections.abc import Callable
from importlib.resources import files
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from narrowing import present

from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.sections import read_tables
from bootfw.errors import ConfigError
from bootfw.personas.rule import Rule
from bootfw.personas.table import Personas, read, stock
from bootfw.values import Address, Client, OfferStyle, Option43, TFTPQuirks, TransferRequest

BIOS = {"name": "bios", "vendor-class": "PXEClient", "architectures": ["x86-bios"], "offer": "file"}
PI = "b8:27:eb:12:34:56"


def matched(*arguments: Any, **conditions: Any) -> str | None:
    persona = stock().match(*arguments, **conditions)
    return persona.name if persona else None


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
def test_stock_personas_match_dhcp_clients(client: tuple[str | bool, ...], persona: str | None) -> None:
    assert matched(*client) == persona


@pytest.mark.parametrize(
    ("client", "persona"),
    [
        ({"vendor_class": "PXEClient", "architecture": "x86-bios", "mac": PI}, "raspberry-pi-3"),
        ({"vendor_class": "PXEClient", "architecture": "x86-bios", "mac": "dc:a6:32:01:36:c2"}, "raspberry-pi"),
        ({"vendor_class": "PXEClient", "architecture": "arm64-uefi", "mac": PI}, "uefi"),
        ({"vendor_class": "PXEClient", "architecture": "x86-bios", "ipxe": True, "mac": PI}, "ipxe"),
        ({"vendor_class": "U-Boot.armv8", "architecture": "arm64-uboot", "mac": PI}, "u-boot"),
        ({"vendor_class": "dhcpcd-9.4.1:Linux", "mac": PI}, None),
        ({"vendor_class": "PXEClient", "user_classes": ("FreeBSD",)}, "freebsd-loader"),
        ({"vendor_class": "PXEClient", "architecture": "x86_64-uefi", "dhcp_version": 6}, "uefi-v6"),
        ({"vendor_class": "HTTPClient", "architecture": "x86_64-uefi-http", "dhcp_version": 6}, "uefi-http"),
        ({"requested": b"\1\3\x96"}, "network-gear"),
        ({"vendor_class": "Cisco Systems, Inc. IP Phone", "requested": bytes((66, 150))}, "network-gear"),
        ({"requested": b"\1\3\x42"}, "plain"),
        ({"requested": b"\1\3\x43"}, "plain"),
        ({"requested": b"\1\3\x42\x43", "vendor_class": "thin client"}, "plain"),
        ({"bootp": True}, "plain"),
        ({"bootp": True, "vendor_class": "PXEClient"}, "pxe-bios"),
        ({"requested": b"\1\3\6", "vendor_class": "MSFT 5.0"}, None),
        ({"requested": b"\x42\x43", "dhcp_version": 6}, None),
        ({"requested": (23, 59), "dhcp_version": 6}, "plain"),
        ({"requested": b"\x3b"}, None),
        ({"vendor_class": "PXEClient", "architecture": "x86-bios", "requested": b"\x96"}, "pxe-bios"),
    ],
)
def test_stock_personas_match_by_further_options(
    client: dict[str, tuple[str | int, ...] | str | int | bytes], persona: str | None
) -> None:
    assert matched(**client) == persona


@pytest.mark.parametrize(
    ("options", "filename", "quirks"),
    [
        ("tsize=0 blksize=1456 windowsize=4 msftwindow=31416", r"\Boot\BCD", "windows"),
        ("blksize=1456 tsize=0", r"\Boot\BCD", "windows-paths"),
        ("blksize=1456 tsize=0", r"/boot\x64\boot.wim", "windows-paths"),
        ("tsize=0", "pxelinux.0\udcff", "pxe-rom-tail"),
        ("blksize=1024 tsize=0", "/grub/x86_64-efi/command.lst", "grub"),
        ("blksize=1432 tsize=0", "command.lst", None),
        ("tsize=0 blksize=1408", "pxelinux.cfg/default", None),
        ("tsize=0 blksize=1468 windowsize=4", "bootx64.efi", None),
        ("blksize=512 windowsize=4", "grubx64.efi", None),
        ("blksize=1024 tsize=0", "packages.lst", "grub"),
        ("timeout=5 blksize=1468 windowsize=32", "kernel", "u-boot-defaults"),
        ("windowsize=32 blksize=1468 timeout=5", "kernel", "u-boot-defaults"),
        ("timeout=5 tsize=0 blksize=1468 windowsize=32", "kernel", "u-boot-defaults"),
        ("timeout=5 blksize=1468 windowsize=32", "\\kernel", "windows-paths"),
        # What ordinary clients send, in any order. curl's timeout is 6 s.
        ("tsize=0 blksize=1428 timeout=6", "file", None),
        ("tsize=0 blksize=512 timeout=6", "file", None),
        ("blksize=1400 tsize=0", "file", None),
        ("blksize=1400 timeout=5 tsize=0", "file", None),
        ("timeout=5 blksize=1400 tsize=0", "file", None),
        ("tsize=1234", "file", None),
        ("", "bootcode.bin", None),
        # atftp and tftpy.
        ("blksize=65464", "file", "repeats-itself"),
        ("windowsize=16", "file", "repeats-itself"),
        ("timeout=2 blksize=1428", "file", "repeats-itself"),
        ("blksize=1428 windowsize=16", "file", "repeats-itself"),
        ("tsize=0 blksize=1428", "file", "repeats-itself"),
        ("tsize=0 timeout=3 blksize=1428 multicast= windowsize=16", "file", "repeats-itself"),
        ("multicast=", "file", "repeats-itself"),
        ("blksize=1428 tsize=0", "file", "repeats-itself"),
        ("blksize=1400 timeout=5", "file", "repeats-itself"),
        # Options that anybody may send.
        ("tsize=0", "file", None),
        ("blksize=1000", "kernel", None),
        ("blksize=512", "kernel", None),
        ("tsize=0 blksize=1432", "file", None),
        ("tsize=0 timeout=2", "file", None),
        # Firmware that repeats nothing itself, or that repeats its packets later than the server repeats the OACK.
        ("blksize=1024 tsize=0", "kernel", "grub"),
        ("blksize=512 tsize=0", "kernel", "grub"),
        ("blksize=1468", "kernel", None),
        ("tsize=0 blksize=1024", "start4.elf", None),
        ("blksize=1456", "pxelinux.0", None),
        ("blksize=1468 windowsize=4", "bootx64.efi", None),
        ("tsize=0 blksize=1228 windowsize=4", "bootx64.efi", None),
    ],
)
def test_stock_personas_match_tftp_requests(options: str, filename: str, quirks: str | None) -> None:
    found = stock().quirks(*tftp_request(options, filename, Client()))

    assert (found.persona if found else None) == quirks
    assert found == (quirks and next(rule for rule in stock().rules if rule.name == quirks).quirks)


def tftp_options_of(persona: str) -> list[str]:
    (rule,) = (rule for rule in stock().rules if rule.name == persona)
    assert rule.tftp_options is not None
    return [text for text in rule.tftp_options.texts if not text.startswith("...")]


def persona_with_order(options: str) -> str:
    """The persona whose rule lists exactly these options in exactly this order."""
    pairs = tftp_request(options)[0].options
    return next((r.name for r in stock().rules if r.tftp_options is not None and r.tftp_options.lists(pairs)), "")


@pytest.mark.parametrize("text", sorted({*tftp_options_of("repeats-itself")} - {"tsize=0 timeout blksize"}))
def test_the_order_of_options_does_not_change_the_quirks_of_a_client_that_repeats_itself(text: str) -> None:
    words = [word if "=" in word else f"{word}=7" for word in text.split()]
    for order in permutations(words):
        assert stock().quirks(*tftp_request(" ".join(order), client=Client())) == TFTPQuirks(oack_once=True), order


@pytest.mark.parametrize("value", [7, 512, 1400, 1428, 65464])
def test_order_of_options_distinguishes_atftp_from_curl(value: int) -> None:
    """curl needs a repeated OACK, and atftp gives up when the OACK is repeated."""
    found_quirks = {
        order: stock().quirks(*tftp_request(" ".join(order), client=Client()))
        for order in permutations(("tsize=0", f"blksize={value}", "timeout=6"))
    }
    assert found_quirks.pop(("tsize=0", "timeout=6", f"blksize={value}")) == TFTPQuirks(oack_once=True)
    assert set(found_quirks.values()) == {None}


@pytest.mark.parametrize(
    "persona",
    ["grub", "pxelinux", "shim", "uefi-tftp", "u-boot-defaults", "slof", "raspberry-pi-tftp", "lwip", "pxe-rom-tftp"],
)
def test_quirks_of_firmware_apply_to_its_own_order_of_options(persona: str) -> None:
    (rule,) = (rule for rule in stock().rules if rule.name == persona)
    (port, *_) = [*rule.tftp_ports, 51234]
    for text in tftp_options_of(persona):
        assert persona_with_order(text) == persona
        found = stock().quirks(*tftp_request(text, "kernel", Client(), port))
        assert found == rule.quirks, text
        for order in permutations(text.split()):
            matched_persona = persona_with_order(" ".join(order)) or persona
            found = stock().quirks(*tftp_request(" ".join(order), "kernel", Client(), port))
            assert found == next(rule.quirks for rule in stock().rules if rule.name == matched_persona), order


def test_an_option_that_is_sent_twice_counts_once() -> None:
    assert stock().quirks(*tftp_request("windowsize=4 windowsize=4")) is None


def test_a_rule_for_some_machines_does_not_change_the_match_of_others() -> None:
    personas = with_own_rules(
        {"name": "x", "oui": ["00:a0:c9"], "tftp-options": ["windowsize blksize"], "max-blksize": 512}
    )

    assert personas.quirks(*tftp_request("windowsize=4 blksize=1428", client=Client())) == TFTPQuirks(oack_once=True)
    machine = Client(mac="00:a0:c9:00:00:01")
    for options in ("windowsize=4 blksize=1428", "blksize=1428 windowsize=4"):
        expected = TFTPQuirks(max_blksize=512) if options.startswith("w") else TFTPQuirks(oack_once=True)
        assert personas.quirks(*tftp_request(options, client=machine)) == expected


@pytest.mark.parametrize(("port", "persona"), [(2001, None), (2002, "repeats-itself"), (51234, "repeats-itself")])
def test_slof_and_atftp_differ_by_the_port_only(port: int, persona: str | None) -> None:
    """SLOF never repeats ACK 0, and atftp aborts when the server repeats the OACK."""
    found = stock().quirks(*tftp_request("blksize=1428", "kernel", port=port))

    assert (found.persona if found else None) == persona


@pytest.mark.parametrize("options", ["timeout=1 blksize=1468", "timeout=5 tsize=0 blksize=1024 windowsize=32"])
def test_u_boot_is_matched_by_its_vendor_class(options: str) -> None:
    """U-Boot's variables can change every value that it sends by TFTP."""
    u_boot = Client(vendor_class="U-Boot.armv8", persona="u-boot")

    assert stock().quirks(*tftp_request(options, "kernel", u_boot)) == TFTPQuirks(
        frozenset({"timeout"}), max_windowsize=8
    )
    assert stock().quirks(*tftp_request("tsize=0 blksize=1468", "kernel", u_boot)) is None


def tftp_request(
    options: str = "", filename: str = "file", client: Client | None = None, port: int = 51234
) -> tuple[TransferRequest, Callable[[Address], Client]]:
    pairs = tuple((name, value) for name, _, value in (word.partition("=") for word in options.split()))

    def client_at(peer: Address) -> Client:
        assert client is not None, "the client must not be looked up"
        return client

    path = filename.replace("\\", "/").lstrip("/")
    return TransferRequest(filename, path, ("10.0.0.9", port), options=pairs), client_at


def test_stock_personas_are_valid_in_a_configuration() -> None:
    """Only the configuration is checked for types and keys, so the stock table is checked here."""
    table = tomllib.loads(files("bootfw.personas").joinpath("stock.toml").read_text())
    errors: list[ConfigError] = []

    assert read_tables("persona", table["persona"], errors) == tuple(
        Rule(**{key.replace("-", "_"): value for key, value in entry.items()}) for entry in table["persona"]
    )
    assert errors == []


def test_every_stock_persona_has_a_source() -> None:
    assert all(rule.source for rule in stock().rules)


def test_a_request_without_options_is_matched_without_a_lookup_of_its_client() -> None:
    assert stock().quirks(*tftp_request("tsize=0 blksize=1468")) is None


def test_first_matching_rule_wins() -> None:
    other_pxe = {"name": "rest", "offer": "boot-server", "vendor-class": "PXE"}
    personas = read({"persona": [BIOS, other_pxe, {**other_pxe, "name": "late"}]})

    assert present(personas.match("PXEClient", "x86-bios", False)).name == "bios"
    assert present(personas.match("PXEClient", "x86-uefi", False)).name == "rest"


@pytest.mark.parametrize(
    ("required", "ipxe", "matches"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_rule_can_require_or_exclude_ipxe(required: bool, ipxe: bool, matches: bool) -> None:
    personas = read({"persona": [{"name": "x", "vendor-class": "P", "offer": "file", "ipxe": required}]})

    assert (personas.match("P", "unknown", ipxe) is not None) is matches


def test_all_requested_options_have_to_be_there() -> None:
    personas = read({"persona": [{"name": "x", "requested": [66, 150], "offer": "file"}]})

    assert personas.match(requested=b"\x42") is None
    assert present(personas.match(requested=b"\1\x96\x42")).name == "x"


def test_a_client_without_an_identifying_option_may_have_a_persona() -> None:
    for requested in (b"\1\3\x96", b"\1\x42", b"\1\x43"):
        assert stock().may_be_plain(requested)
    assert stock().may_be_plain(b"", bootp=True)
    assert not stock().may_be_plain(b"\1\3\6")
    assert not read({"persona": [BIOS]}).may_be_plain(b"\x42\x43\x96")


def test_a_request_for_a_boot_file_can_be_combined_with_other_conditions() -> None:
    board = {"name": "board", "boot-file-requested": True, "requested": [12], "oui": ["02:00:00"], "offer": "file"}
    no_boot_file = {"name": "others", "boot-file-requested": False, "requested": [12], "offer": "file"}
    personas = read({"persona": [board, no_boot_file]})

    assert present(personas.match(requested=b"\x0c\x43", mac="02:00:00:00:00:01")).name == "board"
    assert personas.match(requested=b"\x43", mac="02:00:00:00:00:01") is None
    assert personas.match(requested=b"\x0c\x43", mac="04:00:00:00:00:01") is None
    assert present(personas.match(requested=b"\x0c")).name == "others"
    assert [personas.may_be_plain(codes) for codes in (b"\x0c", b"\x43", b"\x0c\x42")] == [True, False, True]
    assert (personas.by_name["board"].may_be_system, personas.by_name["others"].may_be_system) == (True, False)


def test_only_the_rom_of_a_pi_3_uses_an_offer_as_a_lease() -> None:
    rules = [rule for rule in stock().rules if rule.offer is not None]

    assert [rule.name for rule in rules if rule.persona.takes_offer] == ["raspberry-pi-3"]
    assert [rule.name for rule in rules if rule.persona.may_be_system] == ["plain"]


def test_names_of_ipxe_programs_and_their_exceptions() -> None:
    personas = read({"ipxe-programs": {"names": ["*.kpxe"], "except": ["own*"]}})

    assert [personas.is_ipxe_program(name) for name in ("a.kpxe", "A.KPXE", "own.kpxe", "a.0")] == [
        True,
        True,
        False,
        False,
    ]


def test_empty_table_has_no_personas() -> None:
    assert read({}) == Personas(())


# Personas by TFTP requests


OLD_ROM = {"name": "old-rom", "oui": ["00-A0-C9"], "refuse-options": ["blksize"]}


def with_own_rules(*entries: dict[str, Any]) -> Personas:
    errors: list[ConfigError] = []
    rules = read_tables("persona", list(entries), errors)
    assert errors == []
    return stock().with_own(rules)


def test_a_machine_is_matched_by_its_mac() -> None:
    personas = with_own_rules(OLD_ROM)

    quirks = personas.quirks(*tftp_request("blksize=1456", client=Client(mac="00:a0:c9:00:00:01")))
    assert quirks == TFTPQuirks(refuse_options=frozenset({"blksize"}))
    assert personas.quirks(*tftp_request("blksize=1456", client=Client(mac="00:a0:ca:00:00:01"))) is None
    assert personas.quirks(*tftp_request("blksize=1456", client=Client())) is None


def test_a_machine_is_matched_by_its_source_port() -> None:
    personas = with_own_rules({"name": "x", "tftp-ports": [2001, 2002], "oack-once": True})

    assert personas.quirks(*tftp_request("blksize=1456", port=2002)) == TFTPQuirks(oack_once=True)
    assert personas.quirks(*tftp_request("blksize=1456", port=2003)) is None


def test_a_machine_is_matched_by_its_persona_of_dhcp() -> None:
    personas = with_own_rules({"name": "x", "personas": ["uefi"], "tftp-files": ["*.efi"], "max-blksize": 1024})
    uefi = Client(persona="uefi")

    assert personas.quirks(*tftp_request("blksize=1468", "grubx64.efi", uefi)) == TFTPQuirks(max_blksize=1024)
    assert personas.quirks(*tftp_request("blksize=1468", "kernel", uefi)) is None
    assert personas.quirks(*tftp_request("blksize=1468", "grubx64.efi", Client(persona="ipxe"))) is None


@pytest.mark.parametrize(
    ("condition", "client"),
    [
        ({"vendor-class": "PXEClient:Arch:00007"}, Client(vendor_class="PXEClient:Arch:00007:UNDI:003000")),
        ({"architectures": ["arm64-uefi"]}, Client(architecture="arm64-uefi")),
        ({"ipxe": True}, Client(ipxe=True)),
    ],
)
def test_transfer_is_matched_by_the_dhcp_request_of_its_client(condition: dict[str, Any], client: Client) -> None:
    personas = with_own_rules({"name": "x", "max-windowsize": 4, **condition})

    assert personas.quirks(*tftp_request("windowsize=8 tsize=1", client=client)) == TFTPQuirks(max_windowsize=4)
    assert personas.quirks(*tftp_request("windowsize=8 tsize=1", client=Client())) is None


def test_a_persona_of_dhcp_is_that_of_its_transfers_too() -> None:
    personas = with_own_rules({**BIOS, "refuse-options": ["tsize"]})

    assert present(personas.quirks(*tftp_request("tsize=0", client=Client(persona="bios")))).refuse_options == {"tsize"}
    assert (
        personas.quirks(
            *tftp_request("blksize=9 tsize=0", client=Client(vendor_class="PXEClient", architecture="x86-bios"))
        )
        is None
    )


def test_rule_without_quirks_hides_later_rules() -> None:
    plain = {"name": "plain", "tftp-options": ["... msftwindow"], "tftp-files": ["*.wim"]}

    assert with_own_rules(plain).quirks(*tftp_request("msftwindow=31416", "boot.wim")) is None
    assert present(with_own_rules(plain).quirks(*tftp_request("msftwindow=31416", "boot.sdi"))).ignore_case


def test_cache_of_requested_options_is_bounded() -> None:
    personas = with_own_rules(OLD_ROM)
    for size in range(2000):
        assert personas.quirks(*tftp_request(f"blksize={size} tsize=1", client=Client())) is None

    assert len(personas._by_options) <= 256


# Personas of an operator


def test_rule_with_a_stock_name_replaces_it() -> None:
    personas = with_own_rules(
        {"name": "uefi", "vendor-class": "PXEClient", "offer": "file", "option-43": "use-boot-file"}
    )

    uefi = personas.match("PXEClient", "x86_64-uefi")
    assert uefi is not None
    assert (uefi.offer, uefi.option_43) == (OfferStyle.FILE, Option43.USE_BOOT_FILE)
    assert present(personas.match("PXEClient", "x86-bios")).name == "pxe-bios"
    assert len(personas.rules) == len(stock().rules)


def test_rules_of_the_operator_come_before_the_stock_ones_in_their_order() -> None:
    first = {"name": "one", "vendor-class": "PXEClient", "oui": ["00:11"], "offer": "file"}
    personas = with_own_rules(first, {**first, "name": "two", "oui": ["00"]})

    assert present(personas.match("PXEClient", "x86_64-uefi", mac="00:11:22:33:44:55")).name == "one"
    assert present(personas.match("PXEClient", "x86_64-uefi", mac="00:12:22:33:44:55")).name == "two"
    assert present(personas.match("PXEClient", "x86_64-uefi", mac="01:12:22:33:44:55")).name == "uefi"


def test_omitted_fields_come_from_the_rule_in_like() -> None:
    personas = with_own_rules({"name": "hp", "like": "uefi", "oui": ["00:11"], "offer": "file"})

    assert present(personas.match("PXEClient", "x86_64-uefi", mac="00:11:22:33:44:55")).offer is OfferStyle.FILE
    assert personas.match("", "x86_64-uefi", mac="00:11:22:33:44:55") is None
    assert present(personas.match("PXEClient", "x86_64-uefi")).offer is OfferStyle.BOOT_SERVER


def test_stock_rule_can_be_changed_in_one_field() -> None:
    personas = with_own_rules({"name": "pxe-bios", "like": "pxe-bios", "option-43": "none"})

    assert present(personas.match("PXEClient", "x86-bios")).option_43 is Option43.NONE
    assert present(personas.match("PXEClient", "x86_64-uefi")).name == "uefi"


def test_own_rule_can_offer_a_file_to_an_ignored_client() -> None:
    personas = with_own_rules({"name": "u-boot", "like": "u-boot", "offer": "file"})

    assert present(personas.match("U-Boot", "unknown")).reason == ""


def test_like_may_name_a_rule_of_the_operator() -> None:
    personas = with_own_rules(OLD_ROM, {"name": "other", "like": "old-rom", "oui": ["00:01"]})

    assert present(
        personas.quirks(*tftp_request("blksize=8", client=Client(mac="00:01:00:00:00:01")))
    ).refuse_options == {"blksize"}


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ({}, "persona: must be a list of tables: write [[persona]]"),
        (["x"], "persona[0]: must be a table"),
        ([BIOS, {"offer": "none"}], 'persona[1]: "name" is missing'),
        ([BIOS, BIOS], 'persona[1].name: another persona before it has the name "bios"'),
        ([{**BIOS, "name": 5}], "persona[0].name: must be a string"),
        ([{**BIOS, "name": "a b"}], "persona[0].name: must be a word"),
        ([{**BIOS, "architecturs": "x"}], 'persona[0].architecturs: unknown key; .*; did you mean "architectures"?'),
        ([{**BIOS, "architectures": "x"}], "persona[0].architectures: must be a list of strings"),
        ([{**BIOS, "architectures": [5]}], "persona[0].architectures[0]: must be a string"),
        ([{**BIOS, "architectures": ["x64"]}], 'persona[0].architectures: "x64" is no architecture'),
        ([{**BIOS, "architecture": "x64"}], 'persona[0].architecture: "x64" is no architecture'),
        ([{**BIOS, "vendor-class": 5}], "persona[0].vendor-class: must be a string"),
        ([{**BIOS, "ipxe": "yes"}], "persona[0].ipxe: must be true or false"),
        ([{**BIOS, "oui": ["b8:2"]}], "persona[0].oui: must be the beginning of a MAC address"),
        ([{**BIOS, "requested": [255]}], "persona[0].requested: 255 is no code"),
        ([{**BIOS, "dhcp-version": 7}], "persona[0].dhcp-version: must be from 4 to 6, not 7"),
        ([{**BIOS, "offer": "menu"}], 'persona[0].offer: must be one of "file", "boot-server", "none", not "menu"'),
        ([{**BIOS, "option-43": 8}], 'persona[0].option-43: must be one of "none", "use-boot-file"'),
        ([{**BIOS, "offer": "none"}], "persona[0].reason: must be given with"),
        ([{**BIOS, "reason": "because"}], "persona[0].reason: must be given with"),
        ([{**BIOS, "personas": ["uefi"]}], "persona[0].personas: is only for personas without"),
        ([{**BIOS, "offer": "boot-server", "option-43": "use-boot-file"}], "persona[0].option-43: needs offer"),
        ([{**OLD_ROM, "offer": "file"}], "persona[0].offer: needs vendor-class"),
        ([{**OLD_ROM, "option-43": "menu"}], 'persona[0].option-43: has no effect without "offer"'),
        ([{**OLD_ROM, "user-class": "x"}], 'persona[0].user-class: has no effect without "offer"'),
        ([{"name": "x", "max-blksize": 512}], "persona[0]: has no condition"),
        ([{**OLD_ROM, "max-blksize": 7}], "persona[0].max-blksize: must be from 8 to 65464, not 7"),
        ([{**OLD_ROM, "tftp-options": ["=5"]}], 'persona[0].tftp-options: "=5" has no name'),
        ([{**OLD_ROM, "tftp-ports": [65536]}], "persona[0].tftp-ports: 65536 is no UDP port"),
        ([{**OLD_ROM, "tftp-server-options": [67]}], "persona[0].tftp-server-options: 67 names no TFTP server"),
        ([{**OLD_ROM, "instead": {"a": "b"}}], "persona[0].instead.a: must be a list of strings"),
        ([{"name": "x", "like": "uefy"}], "persona[0].like: there is no such persona; known: "),
        ([{"name": "x", "like": "x"}], "persona[0].like: there is no such persona; known: "),
        ([{"name": "x", "like": "uefi", "offer": "none"}], "persona[0].reason: must be given with"),
    ],
)
def test_error_has_the_path_of_the_key(
    entries: list[dict[str, Any]], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootfw.config.configuration._read_file", lambda source: {"persona": entries})

    with pytest.raises(ConfigErrors) as caught:
        load_config(tmp_path / "x", {})

    assert len(caught.value.lines) == 1
    start, _, end = error.partition(".*")
    assert caught.value.lines[0].startswith(f"{tmp_path / 'x'}: {start}")
    assert end in caught.value.lines[0]


def test_the_configuration_reaches_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text('[[persona]]\nname = "old-rom"\noui = ["00:a0:c9"]\nrefuse-options = ["BLKSIZE"]\n')

    [rule] = load_config(path, {}).settings.persona
    assert (rule.oui, rule.refuse_options) == (("00:a0:c9",), frozenset({"blksize"}))
