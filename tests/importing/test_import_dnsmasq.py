"""dnsmasq.conf: what comes out, and what is said of each line."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imported import boot_file6_of, boot_file_of, fates, imported, values

from bootfw.importing.dnsmasq import _READERS
from bootfw.importing.dnsmasqoptions import DNS, INSTEAD, NOT_NEEDED
from bootfw.importing.outcome import Fate


def dnsmasq(*lines: str) -> str:
    return "\n".join(lines) + "\n"


SERVER = ("dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,12h", "dhcp-option=3,10.77.0.1", "dhcp-option=6,10.77.0.1")
PROXY = ("dhcp-range=10.77.0.0,proxy,255.255.255.0",)
TFTP = ("enable-tftp", "tftp-root=/srv/tftp")


def test_a_server_with_subnet_host_and_options() -> None:
    draft = imported(
        dnsmasq(
            "interface=eth0",
            *SERVER,
            "dhcp-option=option:ntp-server,10.77.0.1,10.77.0.2",
            "dhcp-option=121,10.0.0.0/8,10.77.0.9",
            "dhcp-host=52:54:00:12:34:56,build-7,10.77.0.10,infinite",
            "dhcp-authoritative",
            *TFTP,
        )
    )
    assert draft.clean
    found = values(draft)
    assert found["bootfw"] == {"interfaces": ["eth0"]}
    assert found["dhcp"]["authoritative"] is True
    assert found["dhcp"]["subnet"] == [
        {
            "network": "10.77.0.0/24",
            "pool": ["10.77.0.100-10.77.0.200"],
            "lease-seconds": 43200,
            "router": ["10.77.0.1"],
            "dns": ["10.77.0.1"],
            "options": {
                "ntp-servers": ["10.77.0.1", "10.77.0.2"],
                "classless-static-routes": ["10.0.0.0/8 10.77.0.9"],
            },
            "host": [
                {"mac": "52:54:00:12:34:56", "lease-seconds": 31536000, "address": "10.77.0.10", "hostname": "build-7"}
            ],
        }
    ]
    assert found["backend"] == [{"use": "directory", "root": "/srv/tftp"}]


def test_a_proxy() -> None:
    draft = imported(dnsmasq("port=0", *PROXY, *TFTP, 'pxe-service=x86PC,"Network boot",pxelinux'))
    assert draft.clean
    assert values(draft)["dhcp"] == {"mode": "proxy"}
    assert boot_file_of(draft, 0) == "pxelinux.0"
    assert boot_file_of(draft, 7) is None


def test_tftp_alone() -> None:
    draft = imported(dnsmasq("port=0", *TFTP, "tftp-no-blocksize", "dhcp-boot=pxelinux.0"))
    assert draft.clean
    assert values(draft)["dhcp"] == {"mode": "off"}
    assert values(draft)["tftp"] == {"max-blksize": 512}
    assert fates(draft)["dhcp-boot=pxelinux.0"] == {Fate.UNNEEDED}


TAGS = (
    "dhcp-match=set:bios,option:client-arch,0",
    "dhcp-match=set:efi,option:client-arch,7",
    "dhcp-match=set:efi,option:client-arch,9",
    "dhcp-match=set:arm,93,11",
    "dhcp-match=set:ipxe,175",
    "dhcp-vendorclass=set:http,HTTPClient",
    "dhcp-host=52:54:00:12:34:56,set:rescue",
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("dhcp-boot=pxelinux.0",), {(0, False): "pxelinux.0", (7, False): "pxelinux.0", (None, False): "pxelinux.0"}),
        (("dhcp-boot=tag:bios,a",), {(0, False): "a", (7, False): None, (None, False): None}),
        (("dhcp-boot=a", "dhcp-boot=tag:efi,b"), {(0, False): "a", (7, False): "b", (9, False): "b", (11, False): "a"}),
        # The last line with tags wins, and one with tags over one without.
        (("dhcp-boot=tag:efi,b", "dhcp-boot=tag:!ipxe,c", "dhcp-boot=a"), {(7, False): "c", (7, True): "b"}),
        (("dhcp-boot=tag:!ipxe,a", "dhcp-boot=tag:ipxe,s"), {(0, False): "a", (0, True): "s", (7, True): "s"}),
        (
            ("dhcp-boot=tag:ipxe,tag:efi,x", "dhcp-boot=tag:ipxe,tag:bios,y", "dhcp-boot=tag:bios,tag:!ipxe,z"),
            {(0, True): "y", (7, True): "x", (0, False): "z", (7, False): None},
        ),
        (
            ("dhcp-boot=a", "tag-if=set:both,tag:efi,tag:!ipxe", "dhcp-boot=tag:both,b"),
            {(7, False): "b", (7, True): "a", (0, False): "a"},
        ),
        (("dhcp-option=67,a", "dhcp-option=tag:efi,67,b"), {(0, False): "a", (7, False): "b"}),
        (("dhcp-boot=net:arm,a",), {(11, False): "a", (0, False): None}),
        (("dhcp-boot=tag:http,http://10.0.0.1/a.efi", "dhcp-boot=tag:efi,b"), {(16, False): "http://10.0.0.1/a.efi"}),
    ],
)
@pytest.mark.parametrize("mode", [SERVER, PROXY])
def test_boot_files_by_tags(
    mode: tuple[str, ...], lines: tuple[str, ...], expected: dict[tuple[int | None, bool], str | None]
) -> None:
    draft = imported(dnsmasq(*mode, *TFTP, *TAGS, *lines))
    expected_here = {key: name for key, name in expected.items() if key[0] is not None or mode == SERVER}
    assert {key: boot_file_of(draft, *key) for key in expected_here} == expected_here


def test_the_code_of_x64_that_is_given_counts_for_both() -> None:
    """Firmware sends 7 or 9 (RFC 4578, erratum 4624), and many configurations name one of them."""
    draft = imported(dnsmasq(*SERVER, *TFTP, "dhcp-match=set:x64,93,9", "dhcp-boot=a", "dhcp-boot=tag:x64,b"))
    assert (boot_file_of(draft, 7), boot_file_of(draft, 9), boot_file_of(draft, 0)) == ("b", "b", "a")


SERVICES = (
    "dhcp-boot=boot.0",
    'pxe-service=x86PC,"BIOS",menu.0',
    'pxe-service=X86-64_EFI,"UEFI",menu.efi',
    'pxe-service=ARM64_EFI,"a",a.efi',
    'pxe-service=ARM64_EFI,"b",b.efi',
)


@pytest.mark.parametrize(
    ("mode", "code", "ipxe", "file"),
    [
        (SERVER, 0, False, "menu.0"),
        (SERVER, 0, True, "boot.0"),
        (SERVER, 7, False, "boot.0"),
        (SERVER, 7, True, "boot.0"),
        (SERVER, 11, False, "a.efi"),
        (SERVER, 6, False, "boot.0"),
        (PROXY, 0, False, "menu.0"),
        (PROXY, 0, True, "boot.0"),
        (PROXY, 7, False, "menu.efi"),
        (PROXY, 7, True, "menu.efi"),
        (PROXY, 11, True, "boot.0"),
        (PROXY, 6, False, "boot.0"),
    ],
)
def test_pxe_service_or_dhcp_boot(mode: tuple[str, ...], code: int, ipxe: bool, file: str) -> None:
    assert boot_file_of(imported(dnsmasq(*mode, *TFTP, *SERVICES)), code, ipxe) == file


def test_a_machine_with_a_boot_file_of_its_own() -> None:
    draft = imported(dnsmasq(*SERVER, *TFTP, *TAGS, "dhcp-boot=a", "dhcp-boot=tag:rescue,b,,10.0.0.5"))
    assert draft.clean
    assert boot_file_of(draft, 0) == boot_file_of(draft, 7) == "a"
    assert (
        boot_file_of(draft, 0, mac="52:54:00:12:34:56")
        == boot_file_of(draft, 7, True, "52:54:00:12:34:56")
        == "10.0.0.5: b"
    )


def test_machines_that_are_not_known_get_no_boot_file() -> None:
    draft = imported(
        dnsmasq(*PROXY, *TFTP, "dhcp-host=52:54:00:12:34:56,set:x", "dhcp-ignore=tag:!known", "dhcp-boot=a")
    )
    assert draft.clean
    assert boot_file_of(draft, 0) is None
    assert boot_file_of(draft, 0, mac="52:54:00:12:34:56") == "a"


def test_a_menu_of_the_rom() -> None:
    draft = imported(
        dnsmasq(
            *PROXY,
            *TFTP,
            'pxe-prompt="Press F8 for more", 30',
            'pxe-service=x86PC, "Install, really", pxelinux, 10.0.0.5',
            'pxe-service=x86PC, "Disk", 0',
            'pxe-service=X86-64_EFI, "Install", shimx64.efi',
            'pxe-service=0, "Raspberry Pi Boot"',
        )
    )
    assert draft.clean
    menu, files = values(draft)["resolver"]
    assert menu == {
        "use": "pxe-menu",
        "prompt": "Press F8 for more",
        "timeout-seconds": 30,
        "items": [
            {"description": "Install, really", "file": "pxelinux.0", "server": "10.0.0.5"},
            {"description": "Disk"},
        ],
    }
    assert files["files"]["x86_64-uefi"] == "shimx64.efi"
    assert files["files"]["arm-rpiboot"] == "bootcode.bin"


def test_pxelinux_gets_its_options_with_the_boot_file() -> None:
    lines = (
        *("dhcp-option-force=208,f1:00:74:7e", "dhcp-option-force=209,configs/common"),
        *("dhcp-option-force=210,/tftpboot/", "dhcp-option-force=211,30i"),
    )
    draft = imported(dnsmasq(*SERVER, *TFTP, "dhcp-boot=pxelinux.0", *lines))
    assert draft.clean
    assert values(draft)["resolver"] == [
        {
            "use": "static",
            "file": "pxelinux.0",
            "configfile": "configs/common",
            "pathprefix": "/tftpboot/",
            "reboot-seconds": 30,
        }
    ]


def test_options_by_tags_are_those_of_subnets_hosts_and_classes() -> None:
    draft = imported(
        dnsmasq(
            "dhcp-range=set:a,10.1.0.100,10.1.0.200,255.255.255.0,1h",
            "dhcp-range=set:b,10.2.0.100,10.2.0.200,255.255.255.0,1h",
            "dhcp-option=tag:a,3,10.1.0.1",
            "dhcp-option=tag:b,3,10.2.0.1",
            "dhcp-option=6,9.9.9.9",
            "dhcp-host=52:54:00:12:34:56,set:h,10.1.0.5",
            "dhcp-option=tag:h,26,9000",
            "dhcp-vendorclass=set:phone,Acme",
            "dhcp-option=tag:phone,150,10.0.0.9",
            *TFTP,
        )
    )
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    assert [(each["router"], each["dns"]) for each in dhcp["subnet"]] == [
        (["10.1.0.1"], ["9.9.9.9"]),
        (["10.2.0.1"], ["9.9.9.9"]),
    ]
    assert dhcp["subnet"][0]["host"][0]["options"] == {"interface-mtu": 9000}
    assert dhcp["class"] == [{"vendor-class": "Acme", "options": {"tftp-server-address": ["10.0.0.9"]}}]


@pytest.mark.parametrize(
    ("line", "fate", "reason"),
    [
        ("server=9.9.9.9", Fate.LEFT_OUT, "leave this line in dnsmasq.conf"),
        ("dhcp-script=/bin/x", Fate.LEFT_OUT, "webhook"),
        ("dhcp-host=52:54:00:12:34:56,ignore", Fate.EXPRESSED, "ignore in [dhcp]"),
        ("dhcp-host=id:x,ignore", Fate.LEFT_OUT, "by their hardware addresses only"),
        ("dhcp-host=*:54:00:12:34:56,ignore", Fate.LEFT_OUT, "knows beginnings of hardware addresses"),
        ("dhcp-host=52:54:00:12:34:56,10.9.0.1", Fate.LEFT_OUT, "in no dhcp-range"),
        ("dhcp-host=printer,10.77.0.4", Fate.LEFT_OUT, "not by its name"),
        ("dhcp-option=42,0.0.0.0", Fate.LEFT_OUT, "write that of this server"),
        ("dhcp-option=26,many", Fate.LEFT_OUT, "must be a number"),
        ("dhcp-option=tag:nothing,26,1400", Fate.LEFT_OUT, "no line sets the tag"),
        ("dhcp-boot=tag:nothing,a", Fate.UNNEEDED, "no line sets the tag"),
        ("dhcp-mac=set:x,00:11:22:*:*:*", Fate.EXPRESSED, "[[dhcp.class]]"),
        ("dhcp-range=tag:x,10.77.0.10,10.77.0.20,255.255.255.0", Fate.LEFT_OUT, "no class for these tags (x)"),
        ("interface=eth*", Fate.LEFT_OUT, "patterns"),
        ("conf-dir=/nonexistent", Fate.LEFT_OUT, "can't be read"),
        ("no-such-option=1", Fate.LEFT_OUT, "does not know no-such-option"),
        ("!!", Fate.LEFT_OUT, "not a line of dnsmasq.conf"),
        ("dhcp-range=10.5.0.10,10.5.0.20", Fate.ASSUMED, "netmask"),
        ("no-dhcp-interface=eth1", Fate.ASSUMED, "no TFTP there"),
        ("tftp-root=/srv/b,eth1", Fate.ASSUMED, "every interface"),
        ("bind-interfaces", Fate.UNNEEDED, "interfaces that it is given"),
        ("enable-ra", Fate.LEFT_OUT, "radvd"),
        ("dhcp-range=fd77::10,fd77::20,64,1h", Fate.EXPRESSED, "dhcp6.subnet"),
        ("dhcp-range=::,constructor:eth0,ra-stateless", Fate.LEFT_OUT, "takes no network"),
    ],
)
def test_fate_of_each_line(line: str, fate: Fate, reason: str) -> None:
    draft = imported(dnsmasq(*SERVER, *TFTP, line))
    assert fate in fates(draft)[line]
    assert any(reason in outcome.reason for outcome in draft.outcomes if outcome.line.text == line)
    assert draft.clean == (fate in (Fate.EXPRESSED, Fate.UNNEEDED))


PIECES = """
set:a tag:a tag:!a net:a #a a 0 7 3 6 67 93 175 60 option:router option:client-arch option6:dns-server 10.77.0.1
10.77.0.200 255.255.255.0 0.0.0.0 fd77::1 [fd77::5] 64 proxy static 1h infinite 52:54:00:12:34:56 id:01:02 ignore
x86PC X86-64_EFI pxelinux iPXE PXEClient vendor:PXEClient encap:175 known : , " - eth0 /srv/tftp 01:02:zz
"""
WORDS = st.sampled_from(PIECES.split())
NAMES = sorted((*DNS, *NOT_NEEDED, *INSTEAD, "nonsense", *18 * ("dhcp-range", "dhcp-host", "dhcp-option", "dhcp-boot")))
VALUES = st.lists(WORDS, max_size=5).map(",".join) | st.text(st.characters(exclude_characters="\0"), max_size=20)
LINES = st.tuples(
    st.sampled_from(
        [*NAMES, *_READERS, *10 * ("pxe-service", "pxe-prompt", "dhcp-match", "tag-if", "dhcp-ignore", "tftp-root")]
    ),
    VALUES.map(lambda value: "".join(value.split())),
)


@given(st.lists(LINES, max_size=12))
def test_every_line_has_an_outcome(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name}={value}" if value else name for name, value in lines)
    draft = imported(text, "dnsmasq")
    line_numbers = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    assert line_numbers <= {outcome.line.number for outcome in draft.outcomes}
    assert all(outcome.reason for outcome in draft.outcomes)
    tomllib.loads(draft.text())


def test_names_of_dns_are_not_needed_without_dns() -> None:
    draft = imported(dnsmasq("port=0", "server=9.9.9.9", "domain-needed", *TFTP))
    assert draft.clean
    assert fates(draft)["server=9.9.9.9"] == {Fate.UNNEEDED}


def test_dnsmasq_is_router_and_name_server_unless_it_is_told() -> None:
    draft = imported(dnsmasq(SERVER[0], *TFTP))
    assert [outcome.fate for outcome in draft.outcomes if outcome.line.text == SERVER[0]][-1] == Fate.ASSUMED
    draft = imported(dnsmasq("interface=eth0", "listen-address=10.77.0.1", SERVER[0], "dhcp-option=3", *TFTP))
    (subnet,) = values(draft)["dhcp"]["subnet"]
    assert "router" not in subnet
    assert subnet["dns"] == "10.77.0.1"


def test_files_that_are_included(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.conf").write_text("enable-tftp  # yes\n")
    (tmp_path / "d" / "b.conf.bak").write_text("nonsense\n")
    (tmp_path / "d" / "c.conf~").write_text("nonsense\n")
    (tmp_path / "other").write_text("tftp-root=/srv/tftp\n")
    (tmp_path / "hosts").write_text("52:54:00:12:34:56,10.77.0.4\n")
    draft = imported(
        dnsmasq(
            *SERVER,
            f"conf-dir={tmp_path}/d,.bak",
            f"conf-file={tmp_path}/other",
            f"dhcp-hostsfile={tmp_path}/hosts",
        )
    )
    assert draft.clean
    assert values(draft)["backend"] == [{"use": "directory", "root": "/srv/tftp"}]
    assert values(draft)["dhcp"]["subnet"][0]["host"][0]["address"] == "10.77.0.4"


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(f"enable-tftp\ntftp-root=/srv/tftp\nconf-file={path}\n")
    draft = imported(path.read_text())
    assert any("too deep" in outcome.reason for outcome in draft.outcomes)


def test_lines_that_need_a_look_are_on_top_of_the_configuration() -> None:
    draft = imported(dnsmasq(*SERVER, *TFTP, "dhcp-script=/bin/x"))
    text = draft.text()
    assert text.startswith("# Made by bootfw import from old\n# left out: old:6: dhcp-script=/bin/x\n#     bootfw runs")
    parsed: dict[str, Any] = tomllib.loads(text)
    assert parsed["resolver"] == []


def test_ignored_machines_and_lease_times_of_hosts() -> None:
    draft = imported(
        dnsmasq(
            *SERVER,
            *TFTP,
            "dhcp-host=52:54:00:12:34:56,ignore",
            "dhcp-host=00:11:22:*:*:*,ignore",
            "dhcp-mac=set:bad,52:54:00:12:34:57",
            "dhcp-ignore=tag:bad",
            "dhcp-host=52:54:00:12:34:58,10.77.0.8,45m",
            "dhcp-boot=pxelinux.0",
        )
    )
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    assert dhcp["ignore"] == ["52:54:00:12:34:56", "00:11:22", "52:54:00:12:34:57"]
    assert dhcp["subnet"][0]["host"] == [{"mac": "52:54:00:12:34:58", "lease-seconds": 2700, "address": "10.77.0.8"}]


@pytest.mark.parametrize(
    ("lines", "tags", "conditions"),
    [
        (("dhcp-vendorclass=set:phone,Acme",), "tag:phone", {"vendor-class": "Acme"}),
        (("dhcp-mac=set:lab,00:11:22:*:*:*",), "tag:lab", {"mac": ["00:11:22"]}),
        (("dhcp-host=52:54:00:12:34:56,set:lab",), "tag:lab", {"mac": ["52:54:00:12:34:56"]}),
        ((), "tag:known", {"known": True}),
        ((), "tag:!known", {"known": False}),
        (("dhcp-userclass=set:u,x",), "tag:u,tag:known", {"user-class": "x", "known": True}),
    ],
)
def test_ranges_and_options_with_tags_become_classes(
    lines: tuple[str, ...], tags: str, conditions: dict[str, Any]
) -> None:
    pool = f"dhcp-range={tags},10.77.0.50,10.77.0.60,255.255.255.0,12h"
    draft = imported(dnsmasq(*SERVER, *TFTP, *lines, pool, f"dhcp-option={tags},42,10.77.0.5"))
    assert draft.clean
    dhcp = values(draft)["dhcp"]
    options = {"ntp-servers": ["10.77.0.5"]}
    pools = {"pool": ["10.77.0.50-10.77.0.60"]}
    if "host" in dhcp["subnet"][0]:
        assert dhcp["class"] == [{**conditions, **pools}]
    else:
        assert dhcp["class"] == [{**conditions, **pools, "options": options}]
    assert dhcp["subnet"][0]["pool"] == ["10.77.0.100-10.77.0.200"]


def test_subnets_have_boot_files_of_their_own() -> None:
    draft = imported(
        dnsmasq(
            *TFTP,
            "dhcp-range=set:a,10.77.0.0,proxy,255.255.255.0",
            "dhcp-range=set:b,10.78.0.0,proxy,255.255.255.0",
            "dhcp-match=set:efi,option:client-arch,7",
            "dhcp-boot=tag:a,a.0",
            "dhcp-boot=tag:a,tag:efi,a.efi,,10.0.0.9",
            "dhcp-boot=tag:b,b.0",
        )
    )
    assert draft.clean
    found = [boot_file_of(draft, code, server=server) for server in ("10.77.0.1", "10.78.0.1") for code in (0, 7, 11)]
    assert found == ["a.0", "10.0.0.9: a.efi", "a.0", "b.0", "b.0", "b.0"]


RANGE6 = "dhcp-range=fd77::10,fd77::20,64,1h"
URL = "tftp://[fd77::1]/"


def test_boot_files_of_dhcpv6_are_for_its_networks_only() -> None:
    draft = imported(
        dnsmasq(
            *SERVER,
            *TFTP,
            RANGE6,
            "dhcp-boot=pxelinux.0",
            "dhcp-match=set:arm6,option6:61,11",
            "dhcp-userclass=set:ipxe,iPXE",
            f"dhcp-option=option6:bootfile-url,{URL}x64.efi",
            f"dhcp-option=tag:arm6,option6:59,{URL}arm.efi",
            f"dhcp-option=tag:ipxe,option6:59,{URL}boot.ipxe",
        )
    )
    assert draft.clean
    found = [boot_file6_of(draft, *client) for client in ((7, False), (9, False), (11, False), (7, True), (11, True))]
    assert found == [f"{URL}{name}" for name in ("x64.efi", "x64.efi", "arm.efi", "boot.ipxe", "boot.ipxe")]
    assert boot_file6_of(draft, 7, server="fd78::1") == boot_file_of(draft, 0, server="10.77.0.1") == "pxelinux.0"


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ((RANGE6,), "dhcp-match=set:x,option6:16", "no condition on DHCPv6 option 16, only on the architecture"),
        ((), f"dhcp-option=option6:bootfile-url,{URL}x", "there is no range of one"),
    ],
)
def test_dhcpv6_lines_that_are_left_out(lines: tuple[str, ...], line: str, reason: str) -> None:
    draft = imported(dnsmasq(*SERVER, *TFTP, *lines, line))
    (outcome,) = [each for each in draft.outcomes if each.line.text == line]
    assert outcome.fate is Fate.LEFT_OUT
    assert reason in outcome.reason
