"""IPv6 subnets of the configuration, and their errors."""

from ipaddress import IPv6Address
from typing import Any

import pytest

from bootfw.config.sections import read_section
from bootfw.config.settings import DHCP6Settings
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import ConfigError

NETWORK = {"network": "fd77::/64"}
MAC = "52:54:00:12:34:56"


def read(*subnets: dict[str, Any], mode: str = "server") -> Any:
    """The settings, or the texts of the errors."""
    errors: list[ConfigError] = []
    section = read_section("dhcp6", {"mode": mode, "subnet": list(subnets)} if subnets else {"mode": mode}, errors)
    return section if not errors else [str(error) for error in errors]


def test_subnet_with_every_key() -> None:
    settings = read(
        {
            **NETWORK,
            "pool": ["fd77::1000-fd77::1fff", "fd77::2:0/112", "fd77::9"],
            "exclude": ["fd77::1001"],
            "dns": "fd77:0::1",
            "domain": ["lab.example"],
            "lease-seconds": 600,
            "relays": ["fd99::1"],
            "host": [{"mac": "52-54-00-12-34-56", "address": "fd77::42"}, {"duid": "0x0004ff", "address": "fd77::43"}],
        }
    )
    assert isinstance(settings, DHCP6Settings)
    (subnet,) = settings.subnets
    assert (subnet.dns, subnet.domain, subnet.lease_seconds, subnet.relays) == (
        ("fd77::1",),
        ("lab.example",),
        600,
        ("fd99::1",),
    )
    assert subnet.hosts == (Host6(address="fd77::42", mac=MAC), Host6(address="fd77::43", duid=b"\0\4\xff"))
    assert [(str(IPv6Address(first)), str(IPv6Address(last))) for first, last in subnet.assignable] == [
        ("fd77::1000", "fd77::1000"),
        ("fd77::1002", "fd77::1fff"),
        ("fd77::2:0", "fd77::2:ffff"),
        ("fd77::9", "fd77::9"),
    ]


def test_router_anycast_address_is_not_assigned() -> None:
    assert Subnet6(network="fd77::/64", pool=["fd77::-fd77::2"]).assignable == (
        (int(IPv6Address("fd77::1")), int(IPv6Address("fd77::2"))),
    )


@pytest.mark.parametrize(
    ("subnets", "mode", "error"),
    [
        ((), "server", 'dhcp6.mode: "server" needs a [[dhcp6.subnet]] to give addresses of'),
        ((NETWORK,), "proxy", 'dhcp6.subnet: no addresses are given with mode = "proxy"; that needs "server"'),
        (({},), "server", 'dhcp6.subnet[0]: "network" is missing'),
        (({"network": "10.77.0.0/24"},), "server", "dhcp6.subnet[0].network: must be an IPv6 network"),
        (
            ({**NETWORK, "pool": ["fd77::9-fd77::1"]},),
            "server",
            'dhcp6.subnet[0].pool[0]: is reversed: write "fd77::1-fd77::9"',
        ),
        (({**NETWORK, "pool": ["fd78::1"]},), "server", "dhcp6.subnet[0].pool[0]: is not inside fd77::/64"),
        (({**NETWORK, "dns": ["10.0.0.1"]},), "server", "dhcp6.subnet[0].dns[0]: must be an IPv6 address"),
        (({**NETWORK, "domain": "a..b"},), "server", "dhcp6.subnet[0].domain[0]: must be a domain"),
        (({**NETWORK, "lease-seconds": 5},), "server", "dhcp6.subnet[0].lease-seconds: must be from 60"),
        (({**NETWORK, "router": "fd77::1"},), "server", "dhcp6.subnet[0].router: unknown key"),
        (
            ({**NETWORK, "host": [{"address": "fd77::9"}]},),
            "server",
            "dhcp6.subnet[0].host[0]: needs mac, duid or both",
        ),
        (
            ({**NETWORK, "host": [{"address": "fd78::9", "mac": MAC}]},),
            "server",
            "dhcp6.subnet[0].host[0].address: fd78::9 is not inside fd77::/64",
        ),
        (
            ({**NETWORK, "host": [{"address": "fd77::9", "mac": MAC}, {"address": "fd77::8", "mac": MAC}]},),
            "server",
            "dhcp6.subnet[0].host[1].mac: there is a host with the same one already",
        ),
        ((NETWORK, {"network": "fd77::/48"}), "server", "dhcp6.subnet[1].network: fd77::/48 overlaps fd77::/64"),
        (
            ({**NETWORK, "relays": ["fd99::1"]}, {"network": "fd78::/64", "relays": ["fd99::1"]}),
            "server",
            "dhcp6.subnet[1].relays[0]: fd99::1 is a relay of another subnet already",
        ),
    ],
)
def test_invalid_subnets_are_errors(subnets: tuple[dict[str, Any], ...], mode: str, error: str) -> None:
    (found,) = read(*subnets, mode=mode)
    assert found.startswith(error)
