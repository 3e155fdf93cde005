"""The how-tos in docs/howto, done as they are printed, until a machine has booted or a file has arrived.

The server's /srv and /var/lib are its own: "ip netns exec" gives each program a mount namespace.
"""

import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from howtos import blocks, commands

from .firmware.files import Served
from .firmware.servers import start_address_server, start_address_server6, start_router
from .lab import Host, Lab, Program, need, wait_until
from .machines.bios import start_bios_machine
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS, Card
from .service import BOOTFW, OWN_STATE

pytestmark = pytest.mark.interop

MAC = "52:54:00:12:34:56"
"""The machine of the pages."""

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """What is in /srv."""
    (tmp_path / "srv/boot").mkdir(parents=True)
    return Served(tmp_path / "srv/boot", f"marker-{secrets.token_hex(8)}")


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("bootfw", "10.77.0.1/24")


def run(host: Host, served: Served, directory: Path, *command: str) -> Program:
    """A program in *directory*, with what is served in /srv, and a /var/lib of its own."""
    mounts = f"mount --bind {served.root.parent} /srv && {OWN_STATE}"
    return host.start(*command, name="bootfw", setup_command=mounts, directory=directory)


def start(host: Host, served: Served, directory: Path, configuration: str = "", *ports: int) -> Program:
    """``twistd bootfw`` where *directory* has the files beside the configuration; "": without one."""
    options = []
    if configuration:
        (directory / "bootfw.toml").write_text(configuration)
        options = ["-c", "bootfw.toml"]
    program = run(host, served, directory, *BOOTFW, *options)
    program.wait_until_bound(*(ports or (67, 69)))
    return program


def type_command(host: Host, server: Program, line: str) -> str:
    """What a command of a page prints, typed beside the server."""
    assert line.startswith(("# bootfw ", "$ bootfw "))
    arguments = line[2:].split()
    program = Path(sys.executable).with_name(arguments[0])
    result = host.run(program, *arguments[1:], seconds=30, mounts_of_pid=server.pid)
    assert result.exit_code == 0, result.output
    return result.output


def linux(served: Served, kernel: str, initrd: str) -> None:
    """A system that prints the marker, under the names of a page."""
    served.linux()
    for name, page_path in (("kernel", kernel), ("initramfs", initrd)):
        (served.root / page_path).parent.mkdir(parents=True, exist_ok=True)
        (served.root / name).rename(served.root / page_path)


def test_addresses(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_router(lab)
    served.ipxe_script("boot.ipxe")
    [configuration] = blocks("addresses.md", "toml")
    server = start(host, served, tmp_path, configuration)
    console = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    console.wait_for(served.marker, SECONDS)
    server.wait_until(
        lambda: re.search(r"got '/?boot.ipxe': complete", server.output) is not None, 10, "the script is logged"
    )


def test_callout(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The machine that the API knows boots what it says, another one the resolvers behind it."""
    start_address_server(lab)
    start_router(lab)
    host.ip("address", "add", "10.0.0.1/24", "dev", "eth0")
    lab.host("api", "10.0.0.5/24").start(sys.executable, "-u", EXAMPLES / "boot_api.py", "8000")
    linux(served, "debian/linux", "debian/initrd.gz")
    (served.root / "boot.ipxe").write_text("#!ipxe\necho the script for the others\n")
    [configuration] = blocks("callout.md", "toml")
    start(host, served, tmp_path, configuration, 67, 69, 4011)
    machine, other = (start_bios_machine(lab, cards=(Card("e1000", mac=mac),)) for mac in (MAC, "52:54:00:77:05:02"))
    machine.wait_for(served.marker, SECONDS)
    assert "Installing build-7" in machine.output
    other.wait_for("the script for the others", SECONDS)


@pytest.mark.firmware  # a script of iPXE boots in test_readme_without_a_configuration, too
def test_the_script_of_the_page_for_pixiecore_boots(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    linux(served, "vmlinuz", "initrd.img")
    (served.root / "boot.ipxe").write_text(blocks("from-pixiecore.md", "")[1])
    start(host, served, tmp_path, "", 67, 69, 4011)
    start_bios_machine(lab, "e1000").wait_for(served.marker, SECONDS)


def test_pxe_menu(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The page says how a ROM that is iPXE, which QEMU's is, is shown the menu too."""
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    start_address_server(lab)
    start_router(lab)
    text = Path(EXAMPLES.parent / "docs/howto/pxe-menu.md").read_text()
    persona = [f"{line}\n" for line in ("[[persona]]", 'name = "ipxe"', 'like = "ipxe"', 'option-43 = "menu"')]
    assert all(f"`{line.strip()}`" in text for line in persona)
    directory = served.root / "debian-installer/amd64"
    (directory / "pxelinux.cfg").mkdir(parents=True)
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", directory)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", directory)
    (directory / "pxelinux.cfg/default").write_text(f"SAY {served.marker}\nDEFAULT no\nLABEL no\nLOCALBOOT -1\n")
    start(host, served, tmp_path, blocks("pxe-menu.md", "toml")[0] + "".join(persona), 67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Press F8 for other ways to boot", SECONDS)
    console.type("\x1b[19~")  # F8
    console.wait_for("Install Debian", SECONDS)
    console.type("\x1b[B\r")  # down, enter
    console.wait_for(served.marker, SECONDS)


def test_templates(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    _, configuration, web1, rack1 = blocks("templates.md", "toml")
    (template,) = blocks("templates.md", "jinja")
    for name, text in {
        "templates/boot.ipxe.j2": template,
        "hosts/web1.toml": web1,
        "hosts/groups/rack1.toml": rack1,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    linux(served, "debian-12/vmlinuz", "debian-12/initrd.gz")
    start(host, served, tmp_path, configuration, 67, 69, 4011)
    console = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    console.wait_for("web1 is web server", SECONDS)
    console.wait_for(served.marker, SECONDS)


@pytest.mark.firmware  # the menu of iPXE: test_menu
def test_the_menu(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """Of the files that the page lists, the default of its configuration boots."""
    start_address_server(lab)
    start_router(lab)
    listing = [line.split()[0].removeprefix("/srv/boot/") for line in blocks("templates.md", "")[0].splitlines()]
    kernel, initrd, arguments = listing[:3]
    linux(served, kernel, initrd)
    (served.root / arguments).write_text("console=ttyS0\n")
    start(host, served, tmp_path, blocks("templates.md", "toml")[0], 67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Lab 3", SECONDS)
    console.type("\r")  # the menu would wait for 10 s
    console.wait_for(served.marker, SECONDS)


def test_https(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """curl gets a file when it trusts the certificate's issuer; the log says why another one can't."""
    certificates = pytest.importorskip("certificates", reason="needs the extra tls")
    need("curl")
    authority = certificates.Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    configuration = blocks("http.md", "toml")[2]
    for path, pem in zip(
        re.findall(r'"(/etc/letsencrypt/.*?)"', configuration), authority.issue("10.77.0.1"), strict=True
    ):
        (tmp_path / Path(path).name).write_bytes(pem)
        configuration = configuration.replace(path, Path(path).name)
    (served.root / "snponly.efi").write_bytes(secrets.token_bytes(100_000))
    server = start(host, served, tmp_path, configuration, 67, 69, 4011)
    fetch = ("curl", "--silent", "--output", tmp_path / "got", "https://10.77.0.1:8443/snponly.efi")
    assert host.run(*fetch, seconds=30).exit_code == 60, "it does not trust the issuer"
    server.wait_for(re.sub(r"https [\d.:]+ ", "", blocks("http.md", "")[1]).strip(), 30)
    assert host.run(*fetch, "--cacert", tmp_path / "ca.pem", seconds=30).exit_code == 0
    assert (tmp_path / "got").read_bytes() == (served.root / "snponly.efi").read_bytes()


def test_http_boot_from_another_server(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """UEFI finds the mirror's host name by DNS, and starts what is there."""
    need("dnsmasq")
    lab.host("dhcp", "10.77.0.3/24").start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--log-facility=-"),
        *("--interface=eth0", "--bind-interfaces", "--no-ping", f"--dhcp-leasefile={tmp_path / 'dnsmasq.leases'}"),
        *("--dhcp-range=10.77.0.100,10.77.0.200,1h", "--dhcp-option=option:dns-server,10.77.0.3"),
        *("--no-hosts", "--no-resolv", "--address=/mirror.example/10.77.0.5"),
    ).wait_until_bound(53, 67)
    (tmp_path / "mirror/efi").mkdir(parents=True)
    (served.root / served.grub_with_marker("x86_64-efi")).rename(tmp_path / "mirror/efi/bootx64.efi")
    mirror = lab.host("mirror", "10.77.0.5/24")
    mirror.start(sys.executable, "-m", "http.server", "80", "--directory", tmp_path / "mirror", name="httpd")
    start(host, served, tmp_path, blocks("http.md", "toml")[1], 67, 69, 4011)
    start_uefi_machine(lab, pxe4=False).wait_for(served.marker, SECONDS)


def test_http(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    script = next(block for block in blocks("http.md", "") if block.startswith("#!ipxe"))
    (served.root / "boot.ipxe").write_text(script)
    linux(served, "vmlinuz", "initrd.img")
    server = start(host, served, tmp_path, blocks("http.md", "toml")[0], 67, 69, 4011)
    start_bios_machine(lab, "e1000").wait_for(served.marker, SECONDS)
    for name in ("boot.ipxe", "vmlinuz", "initrd.img"):
        server.wait_for(f"got '/{name}': complete", 30)
    assert "\ntftp 10." not in server.output


def test_archives(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The page's image is found by what it holds, so a tar archive under its name does: no extra is needed."""
    (tmp_path / "image/install.amd").mkdir(parents=True)
    files = {"vmlinuz": secrets.token_bytes(100_000), "initrd.gz": secrets.token_bytes(200_000)}
    for name, data in files.items():
        (tmp_path / "image/install.amd" / name).write_bytes(data)
    (served.root.parent / "images").mkdir()
    (configuration,) = blocks("archives.md", "toml")
    (image,) = re.findall(r'"/srv/(.*?\.iso)"', configuration)
    subprocess.run(["tar", "-cf", served.root.parent / image, "-C", tmp_path / "image", "."], check=True)
    need("curl")
    start(host, served, tmp_path, configuration, 69)
    for name, data in files.items():
        path = tmp_path / name
        result = host.run("curl", "--silent", "--output", path, f"tftp://10.77.0.1/debian/{name}", seconds=30)
        assert result.exit_code == 0
        assert path.read_bytes() == data


@pytest.mark.parametrize("configured", [False, True], ids=["no configuration", "with resolvers"])
def test_next_boot(lab: Lab, host: Host, served: Served, tmp_path: Path, configured: bool) -> None:
    """Ordered as the page says, the machine gets the file once, and then what it always does."""
    start_address_server(lab)
    start_router(lab)
    served.ipxe_script("debian/install.ipxe")
    (served.root / "boot.ipxe").write_text("#!ipxe\necho what it always boots\n")
    configuration = blocks("next-boot.md", "toml")[0] + blocks("README.md", "toml")[0] if configured else ""
    server = start(host, served, tmp_path, configuration, 67, 69, 4011)
    lines = blocks("next-boot.md", "console")[0].splitlines()
    if configured:
        lines = [f"{line} -c bootfw.toml" if line.startswith("# ") else line for line in lines]
    order, answer, show, *table = lines
    assert type_command(host, server, order).splitlines()[-1] == answer
    timestamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    listing = type_command(host, server, show).splitlines()
    assert [re.sub(timestamp, "WHEN", line) for line in listing] == [re.sub(timestamp, "WHEN", line) for line in table]
    start_bios_machine(lab, cards=(Card("e1000", mac=MAC),)).wait_for(served.marker, SECONDS)
    expected = next(
        block for block in blocks("next-boot.md", "") if "one-time boot" in block and "entry removed" in block
    )
    server.wait_for(" ".join(expected.split()), 30)
    next_boot = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),))
    next_boot.wait_for("what it always boots", SECONDS)
    assert served.marker not in next_boot.output


def test_readme_without_a_configuration(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The command of "Boot a machine", and the log that it shows."""
    start_address_server(lab)
    start_router(lab)
    assert blocks("README.md", "console")[1] == "# bootfw run\n"
    served.ipxe_script("boot.ipxe")
    server = start(host, served, tmp_path, "", 67, 69, 4011)
    console = start_uefi_machine(lab)
    console.wait_for(served.marker, SECONDS)
    (log,) = blocks("README.md", "")
    assert blocks("personas.md", "")[0] in log
    for line in log.splitlines():
        pattern = re.sub(r"52:54:00:00:00:01", r"[\\w:]{17}", re.escape(line))
        pattern = re.sub(r"(?<=[ :.])\d+(?=[ :.,\\])", r"\\d+", pattern)
        expected = re.compile(pattern)
        server.wait_until(lambda: expected.search(server.output) is not None, 10, line)  # noqa: B023


def test_readme_configuration(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    start_address_server(lab)
    start_router(lab)
    served.ipxe_script("boot.ipxe")
    server = start(host, served, tmp_path, blocks("README.md", "toml")[0], 67, 69, 4011)
    start_bios_machine(lab, "e1000").wait_for(served.marker, SECONDS)
    server.wait_for("boot.ipxe': complete", 30)


def test_readme_program(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The resolver of the program decides by the MAC, and the program logs."""
    start_address_server(lab)
    start_router(lab)
    (program,) = blocks("README.md", "python")
    (tmp_path / "boot.py").write_text(program)
    served.ipxe_script(f"{MAC}.ipxe")
    server = run(host, served, tmp_path, *BOOTFW[:-1], "-y", "boot.py")
    server.wait_until_bound(67, 69, 4011)
    start_bios_machine(lab, cards=(Card("e1000", mac=MAC),)).wait_for(served.marker, SECONDS)
    server.wait_for(f"{MAC}.ipxe': complete", 30)


@pytest.mark.firmware  # GRUB: test_second_stage; what shim requests: tests/personas
def test_secure_boot(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """Firmware with Microsoft's keys starts shim, and that GRUB, and that a signed kernel."""
    listing, log = blocks("secure-boot.md", "")
    files = re.findall(r"^    (\S+) +Debian: (\S+)", listing, re.MULTILINE)
    assert [name for name, _ in files] == ["shimx64.efi", "grubx64.efi", "mmx64.efi"]
    linux(served, "debian/vmlinuz", "debian/initrd.img")
    for name, path in files:
        need(path)
        shutil.copy(path, served.root / "debian" / name)
    (menu,) = blocks("secure-boot.md", "grub")
    (served.root / "debian/grub.cfg").write_text(menu)
    server = start(host, served, tmp_path, blocks("secure-boot.md", "toml")[0], 67, 69)
    start_uefi_machine(lab, "x86_64-secure").wait_for(served.marker, SECONDS)
    server.wait_for(re.sub(r"^tftp \S+ ", "", log).strip(), 30)


def test_personas(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """All personas of the page in one configuration: ROMs that it names boot, and the log says which they are."""
    start_address_server(lab)
    start_router(lab)
    *personas, _ = blocks("personas.md", "toml")
    served.ipxe_script("boot.ipxe")
    (served.root / "preseed").mkdir()
    (served.root / "preseed/default.cfg").write_text(served.marker)
    server = start(host, served, tmp_path, "".join(personas), 67, 69, 4011)
    start_bios_machine(lab, cards=(Card("e1000", mac="00:a0:c9:12:34:56"),)).wait_for(served.marker, SECONDS)
    server.wait_for("treated as old-rom", 30)
    mac = "94:18:82:12:34:56"
    start_uefi_machine(lab, cards=(Card("virtio-net-pci", "romfile=", mac=mac),)).wait_for(served.marker, SECONDS)
    assert f"{mac} (one-offer, x86_64-uefi, on eth0)" in server.output
    with lab.host("installer", "10.77.0.9/24").udp_socket("10.77.0.9") as client:
        client.sendto(b"\0\1d-i/preseed.cfg\0octet\0blksize\x001428\0tsize\x000\0", ("10.77.0.1", 69))
        answer, address = client.recvfrom(1500)
        assert answer[:2] == b"\0\6"
        client.sendto(b"\0\4\0\0", address)
        assert client.recv(1500)[4:].decode() == served.marker
        client.sendto(b"\0\4\0\1", address)
    server.wait_for("treated as installer", 30)


UDHCPC = """#!/bin/sh
env | grep -E "^(boot_file|tftp|opt150)="
"""


def test_network_gear(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """A client that requests option 150, as switches do, gets the file of the page."""
    need("busybox")
    need("curl")
    (served.root / "network-confg").write_text(served.marker)
    addresses = blocks("addresses.md", "toml")[0].partition("[[resolver]]")[0]
    start(host, served, tmp_path, addresses + blocks("personas.md", "toml")[-1], 67, 69)
    script = tmp_path / "udhcpc"
    script.write_text(UDHCPC)
    script.chmod(0o755)
    switch = lab.host("switch-1")
    requested_options = (word for option in ("tftp", "bootfile", "150") for word in ("-O", option))
    result = switch.run(
        "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", *requested_options, "-s", script, seconds=60
    )
    assert result.exit_code == 0, result.output
    assert {"boot_file=network-confg", "tftp=10.77.0.1", "opt150=0a4d0001"} <= set(result.output.split())
    switch.ip("address", "add", "10.77.0.9/24", "dev", "eth0")
    path = tmp_path / "got"
    assert switch.run("curl", "-s", "-o", path, "tftp://10.77.0.1/network-confg", seconds=30).exit_code == 0
    assert path.read_text() == served.marker


def test_ipv6_beside_a_dhcpv6_server(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """UEFI loads what the proxy says."""
    host.ip("address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    start_address_server6(lab)
    need("/usr/lib/ipxe/snponly.efi")
    server = start(host, served, tmp_path, blocks("ipv6.md", "toml")[0], 547, 69)
    console = start_uefi_machine(lab, pxe4=False, pxe6=True)
    server.wait_for("got 'snponly.efi': complete", SECONDS)
    console.wait_for("iPXE", SECONDS)


def test_ipv6_with_addresses(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """The machine of the page gets its reserved address, and boots to the end."""
    host.ip("address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    router = lab.host("router", "fd77::2/64")
    show_addresses = ("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
    wait_until(
        lambda: "tentative" not in router.run(*show_addresses, seconds=10).output, 30, "the router has an address"
    )
    advertise = Path(__file__).with_name("advertise.py")
    router.start(sys.executable, advertise, "eth0", "fd77::", "MO", name="router")
    served.ipxe_script("boot.ipxe")
    server = start(host, served, tmp_path, blocks("ipv6.md", "toml")[1], 547, 69)
    start_bios_machine(lab, cards=(Card("e1000", mac=MAC),)).wait_for(served.marker, SECONDS)
    assert "fd77::10" in server.output


def test_pxelinux_finds_its_configuration(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """By the options that the page's second configuration sends."""
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    start_address_server(lab)
    start_router(lab)
    shutil.copy("/usr/lib/PXELINUX/pxelinux.0", served.root)
    (served.root / "syslinux/hosts").mkdir(parents=True)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", served.root / "syslinux")
    (served.root / "syslinux/hosts" / MAC).write_text(f"SAY {served.marker}\nDEFAULT no\nLABEL no\nLOCALBOOT -1\n")
    start(host, served, tmp_path, blocks("pxe-menu.md", "toml")[1], 67, 69, 4011)
    start_bios_machine(lab, cards=(Card("e1000", mac=MAC),)).wait_for(served.marker, SECONDS)


DHCPD = """
lease 10.77.0.100 { starts 4 2026/11/19 15:02:11; ends 4 2099/11/19 15:02:11; binding state active;
  hardware ethernet 52:54:00:12:34:56; client-hostname "build-7"; }
lease 10.77.0.101 { starts 4 2026/11/19 15:02:11; ends 4 2026/11/19 16:02:11; binding state free;
  hardware ethernet 52:54:00:12:34:57; }
lease 10.77.0.102 { starts 4 2026/11/19 15:02:11; ends 4 2026/11/19 16:02:11; binding state abandoned; }
"""


def test_leases(lab: Lab, host: Host, served: Served, tmp_path: Path) -> None:
    """Leases come from dhcpd and dnsmasq, a machine gets the address it had, and each command of the table works."""
    start_router(lab)
    host.ip("address", "add", "fd77::1/64", "dev", "eth0", "nodad")
    served.ipxe_script("boot.ipxe")
    dhcp6_settings = '[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\n'
    (tmp_path / "bootfw.toml").write_text(blocks("addresses.md", "toml")[0] + dhcp6_settings)
    hosts = (
        f"host pc{n} {{ dynamic; hardware ethernet 52:54:00:99:00:0{n}; fixed-address 10.77.0.2{n}; }}\n"
        for n in range(3)
    )
    leases = (
        f"lease 10.77.0.{110 + n} {{ starts 4 2026/11/19 15:02:11; ends 4 2099/11/19 15:02:11; binding state active;\n"
        f"  hardware ethernet 52:54:00:88:00:0{n}; }}\n"
        for n in range(9)
    )
    listing, importing = blocks("leases.md", "console")
    sleeper = run(host, served, tmp_path, "sleep", "600")
    sleeper.wait_until(
        lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", 30, "the directories are there"
    )
    var_lib = Path(f"/proc/{sleeper.pid}/root/var/lib")
    for name, text in {
        "dhcp/dhcpd.leases": "".join((DHCPD, *leases, *hosts)),
        "misc/dnsmasq.leases": "".join(f"4000000000 52:54:00:66:00:0{n} 10.77.0.13{n} * *\n" for n in range(2)),
    }.items():
        (var_lib / name).parent.mkdir()
        (var_lib / name).write_text(text)
    first_command, first_output, second_command, second_output = importing.splitlines()
    assert type_command(host, sleeper, first_command).strip() == first_output
    assert type_command(host, sleeper, second_command).strip() == second_output

    server = host.start(*BOOTFW, "-c", "bootfw.toml", name="bootfw", mounts_of_pid=sleeper.pid)
    server.wait_until_bound(67, 69, 547)
    card = Card("e1000", mac="52:54:00:12:34:57")
    start_bios_machine(lab, cards=(card,)).wait_for(served.marker, SECONDS)
    line, *table = listing.splitlines()
    timestamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    rows = [re.sub(timestamp, "WHEN", row) for row in type_command(host, sleeper, line).splitlines()]
    assert [row for row in (re.sub(timestamp, "WHEN", row) for row in table) if row not in rows] == []

    for template in commands("leases.md"):
        command = template.replace("...", "52:54:00:12:34:56")
        output = type_command(
            host, sleeper, f"$ {command.partition(' >')[0]}".replace("leases", "leases -c bootfw.toml", 1)
        )
        assert output or "release" in command
    assert "fd77::50" in type_command(host, sleeper, "$ bootfw leases -c bootfw.toml reservations")
