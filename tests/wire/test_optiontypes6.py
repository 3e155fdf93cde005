"""Options of DHCPv6 that an operator sets."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import dhcp6
from scapy.layers.dhcp6 import dhcp6opts_by_code

from bootfw.errors import ConfigError
from bootfw.wire.options6 import Option, options_bytes
from bootfw.wire.optiontypes6 import OPTIONS6, option_values6

ONE, TWO = "fd77" + "00" * 13 + "01", "fd77" + "00" * 13 + "02"


@pytest.mark.parametrize(
    ("key", "value", "code", "octets"),
    [
        ("sntp-servers", ["fd77::1", "fd77::2"], 31, ONE + TWO),
        ("dns-servers", "fd77::1", 23, ONE),
        ("domain-list", ["lab.example", "b."], 24, "036c6162 076578616d706c65 00 0162 00"),
        ("aftr-name", "a.b", 64, "0161 0162 00"),
        ("sol-max-rt", 60, 82, "0000003c"),
        ("new-tzdb-timezone", "UTC", 42, "555443"),
        ("bootfile-url", "tftp://x", 59, "746674703a2f2f78"),
        ("bootfile-param", ["a", "bc"], 60, "0001 61 0002 6263"),
        ("vendor-opts", "0x00000009000100026869", 17, "00000009 0001 0002 6869"),
        ("82", 60, 82, "0000003c"),
        (82, 60, 82, "0000003c"),
        ("65000", {"uint16": 7}, 65000, "0007"),
        ("65000", {"address": "fd77::1"}, 65000, ONE),
        ("65000", {"domain": "a"}, 65000, "016100"),
        ("sol-max-rt", {"octets": "0x01"}, 82, "01"),
        (65535, b"\1\2", 65535, "0102"),
    ],
)
def test_values_become_octets(key, value, code, octets):
    assert option_values6({key: value}) == {code: bytes.fromhex(octets)}


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("sntp-server", "fd77::1", 'unknown option; did you mean "sntp-servers"?; others go by number'),
        ("3", {"octets": "x"}, "option 3 can't be set here: the server sets it itself"),
        ("5", {"octets": "x"}, 'option 5 can\'t be set here: it is "pool" and "lease-seconds"'),
        ("12", {"address": "fd77::1"}, "option 12 can't be set here: clients would pass their relays by"),
        ("65536", {"uint8": 1}, "option 65536 can't be set here"),
        ("65000", 7, "must say its type, such as {uint16 = 7}; types: address"),
        ("sntp-servers", ["10.77.0.1"], 'must be an IPv6 address, such as "fd77::1", not "10.77.0.1"'),
        ("sntp-servers", ["fd77::1%eth0"], "must be an IPv6 address"),
        ("sol-max-rt", -1, "must be from 0 to 4294967295, not -1"),
        ("bootfile-param", "x", 'must be a list of strings, not "x"'),
        ("bootfile-param", ["x" * 65536], "a string has more than 65535 octets"),
        ("bootfile-param", [], "must not be empty"),
        ("aftr-name", "", 'must be a domain, such as "lab.example", not ""'),
        ("65000", {"octets": "x" * 65536}, "must not be longer than 65535 octets"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(key, value, complaint):
    with pytest.raises(ConfigError) as caught:
        option_values6({key: value})

    assert complaint in caught.value.message
    assert caught.value.path == (key,)


def test_no_code_has_two_names_and_none_is_the_servers_own():
    assert len(dict(OPTIONS6.values())) == len(OPTIONS6)
    assert OPTIONS6["dns-servers"][0] == Option.DNS_SERVERS
    for name in OPTIONS6:
        with pytest.raises(ConfigError, match="must be one type"):
            option_values6({name: {}})


names = st.sampled_from([*OPTIONS6, "65000", "5", "x"]) | st.integers(-5, 70000)
plain = st.booleans() | st.integers(-(2**33), 2**33) | st.text(max_size=5) | st.ip_addresses(v=6).map(str)
kinds = st.sampled_from(["uint8", "text", "octets", "addresses", "strings", "domain", "domains", "word"])
values = plain | st.lists(plain, max_size=3) | st.dictionaries(kinds, plain | st.lists(plain, max_size=2), max_size=2)


@given(st.dictionaries(names, values, max_size=3))
def test_any_table_becomes_octets_or_is_refused(table):
    with contextlib.suppress(ConfigError):
        assert all(0 < code < 65536 and octets for code, octets in option_values6(table).items())


SAMPLES = {
    "addresses": (["fd77::1", "fd77::2"], ["fd77::1", "fd77::2"]),
    "domain": ("lab.example", ["lab.example."]),
    "domains": (["lab.example", "b.example"], ["lab.example.", "b.example."]),
    "text": ("https://lab.example/x", ["https://lab.example/x"]),
    "uint32": (86400, [86400]),
}
"""Type -> what is configured, and what scapy reads."""


@pytest.mark.parametrize(
    "name", [name for name, (code, kind) in OPTIONS6.items() if code in dhcp6opts_by_code and kind in SAMPLES]
)
def test_scapy_reads_the_same(name):
    """An oracle for what stands in the option of each code."""
    code, kind = OPTIONS6[name]
    value, expected = SAMPLES[kind]
    seen = getattr(dhcp6, dhcp6opts_by_code[code])(options_bytes(option_values6({name: value}).items()))
    read = getattr(seen, seen.fields_desc[2].name)
    read = read.decode() if isinstance(read, bytes) else read
    assert (seen.optcode, read if isinstance(read, list) else [read]) == (code, expected)
