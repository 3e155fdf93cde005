"""tftpd-hpa, atftpd and xinetd's tftp: what comes out, and what is said of each line."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import fates, imported, values

from bootfw.importing.formats import FORMATS
from bootfw.importing.outcome import Fate

HPA = """# /etc/default/tftpd-hpa

TFTP_USERNAME="tftp"
TFTP_DIRECTORY="/srv/tftp"
TFTP_ADDRESS=":69"
TFTP_OPTIONS="--secure"
"""


def hpa(options: str) -> str:
    return HPA.replace("--secure", options)


def test_configuration_that_debian_installs() -> None:
    draft = imported(HPA)
    assert draft.clean
    assert values(draft) == {
        "resolver": [],
        "tftp": {"listen": ["0.0.0.0:69", "[::]:69"]},
        "dhcp": {"mode": "off"},
        "backend": [{"use": "directory", "root": "/srv/tftp"}],
    }


@pytest.mark.parametrize(
    ("address", "listen"),
    [
        ("0.0.0.0:69", ["0.0.0.0:69"]),
        ("[::]:69", ["[::]:69"]),
        ("10.0.0.1", ["10.0.0.1:69"]),
        ("10.0.0.1:6969", ["10.0.0.1:6969"]),
        ("fd77::1", ["[fd77::1]:69"]),
    ],
)
def test_addresses(address: str, listen: list[str]) -> None:
    assert values(imported(HPA.replace(":69", address)))["tftp"]["listen"] == listen


@pytest.mark.parametrize(
    ("options", "fate", "settings"),
    [
        ("-l -s", Fate.UNNEEDED, {}),
        ("--secure --create", Fate.ASSUMED, {"writable": True}),
        ("-l -c -s", Fate.ASSUMED, {"writable": True}),
        ("--secure --blocksize 1024", Fate.EXPRESSED, {"max-blksize": 1024}),
        ("-B512 -s", Fate.EXPRESSED, {"max-blksize": 512}),
        ("-s -R 30000:30100", Fate.EXPRESSED, {"ports": "30000-30100"}),
        ("-vvvv --refuse blksize", Fate.LEFT_OUT, {}),
        ("--secure --strange", Fate.LEFT_OUT, {}),
        ("--blocksize many", Fate.LEFT_OUT, {}),
        ("--map-file /nonexistent", Fate.LEFT_OUT, {}),
    ],
)
def test_options(options: str, fate: Fate, settings: dict[str, object]) -> None:
    draft = imported(hpa(options))
    assert fate in fates(draft)[f'TFTP_OPTIONS="{options}"']
    assert values(draft)["tftp"] == {"listen": ["0.0.0.0:69", "[::]:69"], **settings}


def test_a_map_file(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("rg \\\\ /  # Windows\nr ^/\nri ^boot/ Boot/\n")
    draft = imported(hpa(f"--secure --map-file {rules}"))
    found = [(outcome.line.number, outcome.fate) for outcome in draft.outcomes if outcome.line.file == str(rules)]
    assert found == [(1, Fate.UNNEEDED), (2, Fate.UNNEEDED), (3, Fate.LEFT_OUT)]


def test_atftpd() -> None:
    draft = imported(
        'USE_INETD=false\nOPTIONS="--tftpd-timeout 300 --retry-timeout 5 --mtftp x --maxthread 100 /srv/tftp"\n'
    )
    assert values(draft)["backend"] == [{"use": "directory", "root": "/srv/tftp"}]
    left_out = [outcome.reason for outcome in draft.outcomes if outcome.fate is Fate.LEFT_OUT]
    assert left_out == ["mtftp: bootfw has no MTFTP, the multicast of PXE before RFC 2090: clients load one by one"]


def test_multicast_of_atftpd() -> None:
    options = "--mcast-port 1758-1800 --mcast-addr 239.255.0.0-255,239.1.2.3 --mcast-ttl 4 --mcast-switch-client"
    draft = imported(f'USE_INETD=false\nOPTIONS="{options} /srv/tftp"\n')
    assert values(draft)["tftp"] == {
        "multicast-groups": "239.255.0.0-239.255.0.255",
        "multicast-ttl": 4,
    }
    left_out = [outcome.reason for outcome in draft.outcomes if outcome.fate is Fate.LEFT_OUT]
    assert left_out == ["mcast-addr: bootfw takes one range, so these are left out: 239.1.2.3"]


@pytest.mark.parametrize("value", ["many", "239.255.0.9-1", "239.255.0.0-300", "ff02::1", "10.0.0.1"])
def test_multicast_of_atftpd_that_is_none(value: str) -> None:
    draft = imported(f'OPTIONS="--mcast-addr {value} --tftpd-timeout 300 /srv/tftp"\n')
    assert Fate.LEFT_OUT in {outcome.fate for outcome in draft.outcomes}


def test_xinetd() -> None:
    draft = imported(
        """service tftp
{
    socket_type = dgram
    protocol    = udp
    wait        = yes
    user        = root
    server      = /usr/sbin/in.tftpd
    server_args = -c -s /var/lib/tftpboot
    disable     = no
    per_source  = 11
    cps         = 100 2
    flags       = IPv4
    only_from   = 10.0.0.0/8
}
"""
    )
    assert values(draft)["backend"] == [{"use": "directory", "root": "/var/lib/tftpboot"}]
    assert values(draft)["bootfw"] == {"allow": ["10.0.0.0/8"]}
    assert {outcome.fate for outcome in draft.outcomes} == {Fate.EXPRESSED, Fate.UNNEEDED, Fate.ASSUMED}


def test_beside_dnsmasq() -> None:
    draft = imported("dhcp-range=10.77.0.0,proxy,255.255.255.0\nport=0\ndhcp-boot=pxelinux.0\n")
    FORMATS["tftpd"].read(draft, [("tftpd-hpa", HPA)], Path.read_text)
    found = values(draft)
    assert (found["dhcp"], found["backend"]) == ({"mode": "proxy"}, [{"use": "directory", "root": "/srv/tftp"}])


WORDS = """
--secure -s -c -lcs --address 10.0.0.1:69 :69 -B 512 --map-file /nonexistent -m /srv/tftp relative --blocksize x
--port-range=1:2 - ' \\ = IPv4 --no-blksize
"""
NAMES = (
    "TFTP_OPTIONS TFTP_DIRECTORY TFTP_ADDRESS OPTIONS USE_INETD OTHER server_args bind port only_from disable { other"
)


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES.split()), st.lists(st.sampled_from(WORDS.split()), max_size=4).map(" ".join)),
        max_size=8,
    )
)
def test_every_line_has_an_outcome(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name}={value}" for name, value in lines)
    draft = imported(text, "tftpd")
    assert set(range(1, len(lines) + 1)) <= {outcome.line.number for outcome in draft.outcomes}
    tomllib.loads(draft.text())
