"""Values of DHCP options in the configuration."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.dhcp.optionvalues import OPTIONS, option_values
from bootfw.errors import ConfigError
from bootfw.wire.options import Option


@pytest.mark.parametrize(
    ("key", "value", "code", "encoded"),
    [
        ("ntp-servers", ["10.77.0.1", "10.77.0.2"], 42, "0a4d0001 0a4d0002"),
        ("ntp-servers", "10.77.0.1", 42, "0a4d0001"),
        ("broadcast-address", "10.77.0.255", 28, "0a4d00ff"),
        ("interface-mtu", 1400, 26, "0578"),
        ("default-ip-ttl", 64, 23, "40"),
        ("arp-cache-timeout", 60, 35, "0000003c"),
        ("time-offset", -3600, 2, "fffff1f0"),
        ("ip-forwarding", True, 19, "01"),
        ("ip-forwarding", False, 19, "00"),
        ("tftp-server-name", "boot", 66, "626f6f74"),
        ("mtu-plateaus", [68, 1500], 25, "0044 05dc"),
        ("vendor-specific", "0xf1040a4d0001", 43, "f1040a4d0001"),
        ("domain-search", ["lab.example", "b."], 119, "036c6162 076578616d706c65 00 0162 00"),
        # The examples of RFC 3442.
        (
            "classless-static-routes",
            ["0.0.0.0/0 10.77.0.1", "10.0.0.0/8 10.77.0.2", "10.229.0.128/25 10.77.0.3", "10.198.122.47/32 10.77.0.4"],
            121,
            "00 0a4d0001  08 0a 0a4d0002  19 0ae50080 0a4d0003  20 0ac67a2f 0a4d0004",
        ),
        ("26", 1400, 26, "0578"),
        (26, 1400, 26, "0578"),
        ("224", {"uint16": 7}, 224, "0007"),
        ("224", {"text": "x"}, 224, "78"),
        ("224", {"bytes": "0x00ff"}, 224, "00ff"),
        ("interface-mtu", {"bytes": "0x01"}, 26, "01"),
        (224, b"\1\2", 224, "0102"),
        # As in every dnsmasq.conf.
        ("vendor-specific", "01:04:0a:4d:00:09", 43, "01040a4d0009"),
        ("43", "F1:04:0A:4D:00:01", 43, "f1040a4d0001"),
        ("vendor-specific", {"1": {"address": "10.77.0.9"}, "241": {"text": "x"}}, 43, "01 04 0a4d0009 f1 01 78"),
        ("vendor-specific", {"text": "10.77.0.9"}, 43, "31302e37372e302e39"),
        ("vendor-specific", {"text": "01:04"}, 43, "30313a3034"),
        ("vendor-specific", {"address": "10.77.0.9"}, 43, "0a4d0009"),
        (43, b"\1", 43, "01"),
        ("ipxe-encapsulated", {"176": {"uint8": 1}}, 175, "b0 01 01"),
        ("ipxe-encapsulated", "b0:01:01", 175, "b00101"),
        ("pxelinux-magic", "f1:00:74:7e", 208, "f100747e"),
        ("224", {"bytes": "00:ff"}, 224, "00ff"),
        ("224", {"bytes": "0X00FF"}, 224, "00ff"),
        ("host-name", {"text": "01:04"}, 12, "30313a3034"),
        ("host-name", {"bytes": "01:04"}, 12, "0104"),
        ("host-name", "0xpc", 12, "30787063"),
        ("host-name", "a1:2", 12, "61313a32"),
        ("static-routes", ["10.1.0.1", "10.77.0.1"], 33, "0a010001 0a4d0001"),
        ("netbios-node-type", 8, 46, "08"),
        ("wpad-url", "http://wpad/x\n", 252, b"http://wpad/x\n".hex()),
        ("wpad-url", {"text": "\n"}, 252, "0a"),
        ("interface-mtu", {"uint16": 1}, 26, "0001"),
    ],
)
def test_values_become_bytes(key: str, value: Any, code: int, encoded: str) -> None:
    assert option_values({key: value}) == {code: bytes.fromhex(encoded)}


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("ntp-server", "10.77.0.1", 'unknown option; did you mean "ntp-servers"?; others go by number'),
        ("x", 1, "unknown option; others go by number"),
        ("51", {"uint32": 1}, 'option 51 can\'t be set here: it is "lease-seconds"'),
        ("1", "255.0.0.0", 'option 1 can\'t be set here: it follows from "network"'),
        ("61", "x", "option 61 can't be set here: the server sets it itself"),
        ("0", {"uint8": 1}, "option 0 can't be set here: the server sets it itself"),
        ("255", {"uint8": 1}, "option 255 can't be set here: the server sets it itself"),
        ("256", {"uint8": 1}, "option 256 can't be set here: the server sets it itself"),
        (-1, {"uint8": 1}, "unknown option; others go by number"),
        ("224", 7, "must say its type, such as {uint16 = 7}; types: address"),
        ("224", {"word": 7}, "must be one type and its value, such as {uint16 = 7}; types: address"),
        ("224", {}, "must be one type and its value"),
        ("224", {"uint8": 1, "uint16": 1}, "must be one type and its value"),
        ("interface-mtu", 65536, "must be from 0 to 65535, not 65536"),
        ("time-offset", 2**31, "must be from -2147483648 to 2147483647, not 2147483648"),
        ("interface-mtu", "1400", 'must be an integer, not "1400"'),
        ("interface-mtu", True, "must be an integer, not true"),
        ("ntp-servers", ["10.77.0"], 'must be an IPv4 address, such as "10.77.0.1", not "10.77.0"'),
        ("ntp-servers", [], "must not be empty"),
        ("tftp-server-name", "", "must not be empty"),
        ("vendor-specific", "10.77.0.9", 'is made of sub-options: must be a table like {"1" = {uint16 = 7}}, or bytes'),
        ("vendor-specific", "01-04-0a", '"0x01020007" or "01:02:00:07", not "01-04-0a"; {text = "..."} is text'),
        ("vendor-specific", "1:4:a", "is made of sub-options"),
        ("vendor-specific", "01:04:", "is made of sub-options"),
        ("vendor-specific", "", "must not be empty"),
        ("vendor-specific", {}, 'must be a table like {"1" = {uint16 = 7}}'),
        ("vendor-specific", 7, "must be a string, not 7"),
        ("vendor-specific", ["01:04"], "must be a string, not a list"),
        ("ipxe-encapsulated", "iPXE", "is made of sub-options"),
        ("ipxe-encapsulated", "0xb0", "is made of sub-options, and these bytes are none: sub-option 176 runs past the"),
        ("ipxe-encapsulated", {"text": "x"}, "is made of sub-options, and these bytes are none"),
        ("pxelinux-magic", "0xf100747f", 'must be "0xf100747e", the only value that PXELINUX takes'),
        ("224", {"bytes": "abc"}, 'must be bytes, such as "0x0104" or "01:04", not "abc"; {text = "..."} is text'),
        ("host-name", "01:04", '"01:04" looks like bytes: write {bytes = "01:04"} for them, {text = "01:04"} for the'),
        ("bootfile-name", "0x0104", '"0x0104" looks like bytes'),
        ("static-routes", ["10.1.0.1"], "must be pairs of addresses, and so an even number of them"),
        ("policy-filter", ["10.1.0.1", "255.255.0.0", "10.2.0.1"], "must be pairs of addresses"),
        ("max-datagram-reassembly", 575, "must be 576 or more, not 575"),
        ("default-ip-ttl", 0, "must be 1 or more, not 0"),
        ("default-tcp-ttl", 0, "must be 1 or more, not 0"),
        ("mtu-plateaus", [1500, 67], "must be 68 or more, not 67"),
        ("interface-mtu", 67, "must be 68 or more, not 67"),
        ("netbios-node-type", 3, "must be one of 1, 2, 4, 8, not 3"),
        ("auto-configure", 2, "must be one of 0, 1, not 2"),
        ("captive-portal", "portal.example", 'must be a URL, such as "http://10.77.0.1/x", not "portal.example"'),
        ("wpad-url", "/wpad.dat", "must be a URL"),
        ("vendor-specific", "0xf", 'must be text, or "0x" and pairs of hexadecimal digits, not "0xf"'),
        ("classless-static-routes", ["10.0.0.1/8 10.77.0.1"], "must be a network and its router"),
        ("classless-static-routes", ["10.0.0.0/8"], "must be an IPv4 address"),
        ("domain-search", ["lab..example"], "must be a domain"),
        ("domain-search", ["x" * 64], "must be a domain"),
    ],
)
def test_error_has_the_path_of_the_key(key: str, value: Any, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        option_values({key: value})

    assert error in caught.value.message
    assert caught.value.path == (key,)


def test_the_same_option_by_name_and_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="26 is there twice"):
        option_values({"interface-mtu": 1400, "26": 1400})


def test_error_has_the_path_inside_a_value() -> None:
    with pytest.raises(ConfigError) as caught:
        option_values({"ntp-servers": ["10.77.0.1", 3]})

    assert caught.value.path == ("ntp-servers", 1)


def test_names_of_options_are_those_of_the_wire_package() -> None:
    """For the options that have a name there."""
    codes = {code: name for name, (code, _) in OPTIONS.items()}
    named = {option: codes[option] for option in Option if option in codes}

    assert named == {option: option.name.lower().replace("_", "-") for option in named}
    assert len(codes) == len(OPTIONS)


names = st.sampled_from([*OPTIONS, "224", "51", "x"]) | st.integers(-5, 300)
plain = st.booleans() | st.integers(-(2**33), 2**33) | st.text(max_size=5) | st.ip_addresses(v=4).map(str)
types = st.sampled_from(["uint8", "text", "bytes", "addresses", "routes", "domains", "word"])
values = plain | st.lists(plain, max_size=3) | st.dictionaries(types, plain | st.lists(plain, max_size=2), max_size=2)


@given(st.dictionaries(names, values, max_size=3))
def test_any_table_becomes_bytes_or_is_refused(table: dict[Any, Any]) -> None:
    with contextlib.suppress(ConfigError):
        assert all(0 < code < 255 and data for code, data in option_values(table).items())


@pytest.mark.parametrize(
    ("value", "path", "error"),
    [
        ({"0": {"uint8": 1}}, ("0",), "must be the number of a sub-option, from 1 to 254"),
        ({"255": {"uint8": 1}}, ("255",), "must be the number of a sub-option"),
        ({"1": {"uint8": 1}, "text": "x"}, ("text",), "must be the number of a sub-option"),
        ({"1": {"uint8": 1}, "01": {"uint8": 1}}, ("01",), "1 is there twice"),
        ({"1": "10.77.0.9"}, ("1",), "must say its type, such as {uint16 = 7}"),
        ({"1": {"uint8": 256}}, ("1",), "must be from 0 to 255, not 256"),
        ({"1": {"text": "x" * 256}}, (), "sub-option 1 of 256 bytes"),
    ],
)
def test_errors_inside_of_suboptions_have_their_path(value: Any, path: tuple[str | int, ...], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        option_values({"vendor-specific": value})

    assert error in caught.value.message
    assert caught.value.path == ("vendor-specific", *path)


def test_the_old_name_of_the_type_bytes_is_an_error_that_names_the_new_one() -> None:
    with pytest.raises(ConfigError) as caught:
        option_values({"224": {"octets": "0x0104"}})
    assert str(caught.value) == '224.octets: is called "bytes" now'
