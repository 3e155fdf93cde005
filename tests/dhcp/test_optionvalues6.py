"""Values of DHCPv6 options in the configuration."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dhcp6
from scapy.layers.dhcp6 import dhcp6opts_by_code

from bootfw.dhcp.optionvalues import OPTIONS6, option_values6
from bootfw.errors import ConfigError
from bootfw.wire.options6 import Option, code_of, key_of, options_bytes

ONE, TWO = "fd77" + "00" * 13 + "01", "fd77" + "00" * 13 + "02"


@pytest.mark.parametrize(
    ("key", "value", "code", "encoded"),
    [
        ("sntp-servers", ["fd77::1", "fd77::2"], 31, ONE + TWO),
        ("dns-servers", "fd77::1", 23, ONE),
        ("domain-list", ["lab.example", "b."], 24, "036c6162 076578616d706c65 00 0162 00"),
        ("aftr-name", "a.b", 64, "0161 0162 00"),
        ("sol-max-rt", 60, 82, "0000003c"),
        ("new-tzdb-timezone", "UTC", 42, "555443"),
        ("bootfile-url", "tftp://x", 59, "746674703a2f2f78"),
        ("bootfile-param", ["a", "bc"], 60, "0001 61 0002 6263"),
        ("82", 60, 82, "0000003c"),
        (82, 60, 82, "0000003c"),
        ("65000", {"uint16": 7}, 65000, "0007"),
        ("65000", {"address": "fd77::1"}, 65000, ONE),
        ("65000", {"domain": "a"}, 65000, "016100"),
        ("sol-max-rt", {"bytes": "0x01"}, 82, "01"),
        (65535, b"\1\2", 65535, "0102"),
        ("65000", {"bytes": "01:04:fF"}, 65000, "0104ff"),
        ("vendor-class", "00:00:01:37:00:01:78", 16, "00000137 0001 78"),
        ("geoconf-civic", "0x00646500", 36, "00646500"),
        ("ntp-server", {"1": {"address": "fd77::1"}, "3": {"domain": "a"}}, 56, f"0001 0010 {ONE} 0003 0003 016100"),
        ("ntp-server", f"0x00010010{ONE}", 56, f"0001 0010 {ONE}"),
        ("56", {"bytes": "0x00030003016100"}, 56, "0003 0003 016100"),
        (56, b"\1", 56, "01"),
        ("captive-portal", "urn:ietf:params:capport:unrestricted", 103, b"urn:ietf:params:capport:unrestricted".hex()),
        ("captive-portal", {"text": "x"}, 103, "78"),
    ],
)
def test_values_become_bytes(key: str | int, value: Any, code: int, encoded: str) -> None:
    assert option_values6({key: value}) == {code: bytes.fromhex(encoded)}


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("sntp-server", "fd77::1", 'unknown option; did you mean "sntp-servers"?; others go by number'),
        ("3", {"bytes": "x"}, "option 3 can't be set here: the server sets it itself"),
        ("5", {"bytes": "x"}, 'option 5 can\'t be set here: it is "pool" and "lease-seconds"'),
        ("12", {"address": "fd77::1"}, "option 12 can't be set here: clients would pass their relays by"),
        ("65536", {"uint8": 1}, "option 65536 can't be set here"),
        ("65000", 7, "must say its type, such as {uint16 = 7}; types: address"),
        ("sntp-servers", ["10.77.0.1"], 'must be an IPv6 address, such as "fd77::1", not "10.77.0.1"'),
        ("sntp-servers", ["fd77::1%eth0"], "must be an IPv6 address"),
        ("sol-max-rt", -1, "must be from 0 to 4294967295, not -1"),
        ("bootfile-param", "x", 'must be a list of strings, not "x"'),
        ("bootfile-param", ["x" * 65536], "a string has more than 65535 bytes"),
        ("bootfile-param", [], "must not be empty"),
        ("aftr-name", "", 'must be a domain, such as "lab.example", not ""'),
        ("65000", {"text": "x" * 65536}, "must not be longer than 65535 bytes"),
        ("65000", {"bytes": "abc"}, 'must be bytes, such as "0x0104" or "01:04", not "abc"; {text = "..."} is text'),
        ("vendor-class", "PXEClient", 'must be bytes, such as "0x0104" or "01:04", not "PXEClient"'),
        ("vendor-class", "0x0137", "must be an enterprise number of four bytes, and classes"),
        ("vendor-class", "0x000001370005", "must be an enterprise number of four bytes, and classes"),
        ("vendor-class", "0x00000137", "there is no class"),
        ("ntp-server", "fd77::1", 'is made of sub-options: must be a table like {"1" = {uint16 = 7}}, or bytes'),
        ("ntp-server", ["fd77::1"], "must be a string, not a list"),
        (
            "ntp-server",
            "0x00010010fd77",
            "is made of sub-options, and these bytes are none: option 1 runs past the end",
        ),
        ("ntp-server", {"text": "pool"}, "is made of sub-options, and these bytes are none"),
        ("ntp-server", "", "must not be empty"),
        ("bootfile-url", "pxelinux.0", 'must be a URL, such as "http://10.77.0.1/x", not "pxelinux.0"'),
        ("mud-url", "lab.example", "must be a URL"),
        ("new-tzdb-timezone", "55:54:43", '"55:54:43" looks like bytes: write {bytes = "55:54:43"} for them'),
        (17, b"\0\0\0", "vendor options begin with an enterprise number of four bytes"),
    ],
)
def test_error_has_the_path_of_the_key(key: str | int, value: Any, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        option_values6({key: value})

    assert error in caught.value.message
    assert caught.value.path == (key,)


CISCO, CABLELABS = 9 << 16 | 17, 4491 << 16 | 17


@pytest.mark.parametrize("name", ["vendor-opts", "17", 17])
def test_vendor_options_are_an_option_for_each_enterprise(name: str | int) -> None:
    table = {
        "9": {"1": {"text": "hi"}, "65535": {"uint16": 7}},
        "4491": {"32": {"addresses": ["fd77::1", "fd77::2"]}, "0": {"bytes": ""}},
    }

    assert option_values6({name: table, "sol-max-rt": 60}) == {
        CISCO: bytes.fromhex("00000009 0001 0002 6869 ffff 0002 0007"),
        CABLELABS: bytes.fromhex(f"0000118b 0020 0020 {ONE} {TWO} 0000 0000"),
        82: bytes.fromhex("0000003c"),
    }


def test_bytes_of_vendor_options_are_stored_by_enterprise() -> None:
    """In the first form a program passes them in a reservation; in the second form they are stored."""
    cisco, cablelabs = bytes.fromhex("00000009000100026869"), bytes.fromhex("0000118b")

    assert option_values6({17: cisco}) == {CISCO: cisco}
    assert option_values6({CISCO: cisco, CABLELABS: cablelabs}) == {CISCO: cisco, CABLELABS: cablelabs}


@pytest.mark.parametrize(
    ("value", "path", "error"),
    [
        ("0x0000", (), 'must be a table like {"9" = {"1" = {text = "x"}}}'),
        ({}, (), 'must be a table like {"9" = {"1" = {text = "x"}}}'),
        ({"9": {}}, ("9",), 'must be a table like {"9" = {"1" = {text = "x"}}}'),
        ({"9": {"text": "x"}}, ("9", "text"), "must be the number of an option, from 0 to 65535"),
        ({"cisco": {}}, ("cisco",), "must be an enterprise number, from 1 to 4294967295"),
        ({"0": {}}, ("0",), "must be an enterprise number, from 1 to 4294967295"),
        ({"4294967296": {}}, ("4294967296",), "must be an enterprise number"),
        ({"9": {"1": {"uint8": 1}}, "09": {}}, ("09",), "9 is there twice"),
        ({"9": {"65536": {"uint8": 1}}}, ("9", "65536"), "must be the number of an option"),
        ({"9": {"1": {"uint8": 1}, "01": {"uint8": 1}}}, ("9", "01"), "1 is there twice"),
        ({"9": {"1": "x"}}, ("9", "1"), "must say its type, such as {uint16 = 7}; types: address"),
        ({"9": {"1": {"text": "x", "uint8": 1}}}, ("9", "1"), "must be one type and its value"),
        ({"9": {"1": {"uint8": 256}}}, ("9", "1"), "must be from 0 to 255, not 256"),
        ({"9": {"1": {"uint16s": [1, "x"]}}}, ("9", "1", 1), 'must be an integer, not "x"'),
        ({"9": {"1": {"vendor-options": {}}}}, ("9", "1"), "must be one type and its value"),
        ({"9": {"1": {"text": "x" * 65535}}}, ("9",), "must not be longer than 65535 bytes"),
    ],
)
def test_errors_inside_of_vendor_options_have_their_path(value: Any, path: tuple[str | int, ...], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        option_values6({"vendor-opts": value})

    assert error in caught.value.message
    assert caught.value.path == ("vendor-opts", *path)


def test_an_enterprise_has_one_option() -> None:
    with pytest.raises(ConfigError, match="option 17 is there twice") as caught:
        option_values6({"vendor-opts": {"9": {"1": {"text": "a"}}}, 17: bytes.fromhex("00000009")})
    assert caught.value.path == (17,)


def test_no_code_has_two_names_and_no_name_is_for_an_option_that_the_server_sets() -> None:
    assert len(dict(OPTIONS6.values())) == len(OPTIONS6)
    assert OPTIONS6["dns-servers"][0] == Option.DNS_SERVERS
    for name in OPTIONS6:
        with pytest.raises(ConfigError, match=r"must be (one type|a table)"):
            option_values6({name: {}})


names = st.sampled_from([*OPTIONS6, "65000", "5", "x"]) | st.integers(-5, 70000)
plain = st.booleans() | st.integers(-(2**33), 2**33) | st.text(max_size=5) | st.ip_addresses(v=6).map(str)
types = st.sampled_from(["uint8", "text", "bytes", "addresses", "strings", "domain", "domains", "word"])
vendors = st.dictionaries(
    st.integers(0, 2**32).map(str),
    st.dictionaries(st.integers(0, 65536), st.fixed_dictionaries({"text": st.text(max_size=5)})),
)
values = (
    vendors
    | plain
    | st.lists(plain, max_size=3)
    | st.dictionaries(types, plain | st.lists(plain, max_size=2), max_size=2)
)


@given(st.dictionaries(names, values, max_size=3))
def test_any_table_becomes_bytes_or_is_refused(table: dict[Any, Any]) -> None:
    with contextlib.suppress(ConfigError):
        for key, data in option_values6(table).items():
            assert data
            assert key == key_of(code_of(key), data)
            assert 0 < code_of(key) < 65536


SAMPLES = {
    "addresses": (["fd77::1", "fd77::2"], ["fd77::1", "fd77::2"]),
    "domain": ("lab.example", ["lab.example."]),
    "domains": (["lab.example", "b.example"], ["lab.example.", "b.example."]),
    "text": ("https://lab.example/x", ["https://lab.example/x"]),
    "uint32": (86400, [86400]),
}
"""Type -> the configured value, and what scapy reads."""


@pytest.mark.parametrize(
    "name", [name for name, (code, kind) in OPTIONS6.items() if code in dhcp6opts_by_code and kind in SAMPLES]
)
def test_scapy_reads_the_same(name: str) -> None:
    """Scapy is an independent decoder of the option with each code."""
    code, kind = OPTIONS6[name]
    value, expected = SAMPLES[kind]
    option = getattr(dhcp6, dhcp6opts_by_code[code])(options_bytes(option_values6({name: value}).items()))
    read = getattr(option, option.fields_desc[2].name)
    read = read.decode() if isinstance(read, bytes) else read
    assert (option.optcode, read if isinstance(read, list) else [read]) == (code, expected)


def test_scapy_reads_the_same_vendor_options() -> None:
    table = {"9": {"1": {"text": "hi"}, "2": {"uint16": 7}}, "4491": {"32": {"address": "fd77::1"}}}
    values = option_values6({"vendor-opts": table})

    options = [dhcp6.DHCP6OptVendorSpecificInfo(options_bytes([(code_of(key), data)])) for key, data in values.items()]
    assert [each.enterprisenum for each in options] == [9, 4491]
    assert [[(suboption.optcode, suboption.optdata) for suboption in each.vso] for each in options] == [
        [(1, b"hi"), (2, b"\0\7")],
        [(32, bytes.fromhex(ONE))],
    ]
