"""A machine is told the same before and after dnsmasq or tftpd-hpa is replaced, as the pages say it is done."""

import json
import secrets
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bootprograms import pe, pxelinux
from howtos import blocks

from .dhcpservers import kea
from .lab import Host, Lab, Program, need
from .machines.bios import start_bios_machine
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS
from .service import start_bootfw
from .test_second_stage import GRUB, SHIM
from .tftpservers import start_unpacked

pytestmark = pytest.mark.interop

COMMAND = str(Path(sys.executable).with_name("bootfw"))


def with_paths_below(text: str, tmp_path: Path) -> str:
    """The paths of a page, in *tmp_path*."""
    for path in ("/etc/", "/srv/", "/var/lib/misc/"):
        text = text.replace(path, f"{tmp_path}{path}")
    return text


def create_files(tmp_path: Path) -> None:
    for path in ("etc/bootfw", "etc/default", "srv/tftp", "var/lib/misc"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "srv/tftp/pxelinux.0").write_bytes(pxelinux("6.04"))
    (tmp_path / "srv/tftp/shimx64.efi").write_bytes(pe())


def probed_files(client: Host, *arguments: str) -> list[tuple[str, Any]]:
    """(step, file) of each step of a boot."""
    result = client.run(COMMAND, "probe", "--json", *arguments, seconds=60)
    report = json.loads(result.output)
    assert report["boots"], result.output
    return [(step["what"], step["details"].get("file")) for step in report["steps"] if step["what"] == "TFTP"]


def run_commands(host: Host, page: str, tmp_path: Path, imported_files: str) -> None:
    """The commands of the page about bootfw itself.

    :param of: the files to import, if they are others than those of the page.
    """
    for block in blocks(page, "console"):
        for line in with_paths_below(block, tmp_path).splitlines():
            if line.startswith("# bootfw "):
                arguments = shlex.split(line.removeprefix("# bootfw "))
                if imported_files and arguments[0] == "import":
                    arguments[1 : arguments.index("-o")] = imported_files.split()
                result = host.run(COMMAND, *arguments, seconds=60)
                assert result.exit_code in ((0, 3) if arguments[0] == "import" else (0,)), result.output


def replace(
    host: Host, old_server: Program, page: str, tmp_path: Path, *ports: int, imported_files: str = ""
) -> Program:
    """Stop *old*, and start bootfw by the commands of the page."""
    old_server.stop()
    run_commands(host, page, tmp_path, imported_files)
    text = (tmp_path / "etc/bootfw/bootfw.toml").read_text()
    return start_bootfw(host, tmp_path, text.replace("[dhcp]", "[web]\nlisten = []\n\n[dhcp]", 1), *ports)


def test_dnsmasq_of_the_page_is_replaced(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("dnsmasq")
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(tmp_path / "state"))
    create_files(tmp_path)
    (tmp_path / "etc/dnsmasq.conf").write_text(with_paths_below(blocks("from-dnsmasq.md", "")[0], tmp_path))
    # A script that is not there stops dnsmasq.
    (tmp_path / "running.conf").write_text(
        "\n".join(
            line for line in (tmp_path / "etc/dnsmasq.conf").read_text().splitlines() if "dhcp-script" not in line
        )
    )
    lease = f"{int(time.time()) + 7200} 52:54:00:12:34:56 10.77.0.10 build-7 *\n"
    (tmp_path / "var/lib/misc/dnsmasq.leases").write_text(lease)
    server, client = lab.host("server", "10.77.0.1/24"), lab.host("client", "10.77.0.9/24")
    old_server = server.start(
        *("dnsmasq", "--keep-in-foreground", f"--conf-file={tmp_path}/running.conf", "--user=root", "--pid-file="),
        *("--log-facility=-", f"--dhcp-leasefile={tmp_path}/var/lib/misc/dnsmasq.leases", "--no-ping"),
    )
    old_server.wait_until_bound(67, 69)
    files_before = {kind: probed_files(client, "-i", "eth0", "--as", kind) for kind in ("bios", "uefi")}
    assert files_before == {"bios": [("TFTP", "pxelinux.0")], "uefi": [("TFTP", "shimx64.efi")]}
    replace(server, old_server, "from-dnsmasq.md", tmp_path, 67, 69, 4011)
    assert {kind: probed_files(client, "-i", "eth0", "--as", kind) for kind in ("bios", "uefi")} == files_before


def test_tftpd_hpa_of_the_page_is_replaced(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(tmp_path / "state"))
    need("curl")
    create_files(tmp_path)
    for path, text in zip(("etc/default/tftpd-hpa", "etc/tftpd.map"), blocks("from-tftpd-hpa.md", ""), strict=True):
        (tmp_path / path).write_text(with_paths_below(text, tmp_path))
    variables = dict(line.split("=", 1) for line in (tmp_path / "etc/default/tftpd-hpa").read_text().splitlines())
    values = {name: shlex.split(value)[0] for name, value in variables.items()}
    options = (*values["TFTP_OPTIONS"].split(), "--user", "root", "--address", values["TFTP_ADDRESS"])
    server, client = lab.host("server", "10.77.0.1/24"), lab.host("client", "10.77.0.9/24")
    old_server = start_unpacked(server, "in.tftpd", "--foreground", *options, values["TFTP_DIRECTORY"])

    def fetched_files() -> list[bytes]:
        contents = []
        for name in ("pxelinux.0", "/shimx64.efi"):
            destination = tmp_path / "loaded"
            destination.unlink(missing_ok=True)
            url = f"tftp://10.77.0.1/{name}"
            assert client.run("curl", "--silent", "--fail", "--output", destination, url, seconds=60).exit_code == 0
            contents.append(destination.read_bytes())
        return contents

    files_before = fetched_files()
    assert files_before == [(tmp_path / "srv/tftp" / name).read_bytes() for name in ("pxelinux.0", "shimx64.efi")]
    replace(server, old_server, "from-tftpd-hpa.md", tmp_path, 69)
    assert fetched_files() == files_before


def test_kea_of_the_page_is_replaced(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(tmp_path / "state"))
    create_files(tmp_path)
    (tmp_path / "etc/kea").mkdir()
    for path, text in zip(("etc/kea/kea-dhcp4.conf", "etc/default/tftpd-hpa"), blocks("from-kea.md", ""), strict=True):
        (tmp_path / path).write_text(with_paths_below(text, tmp_path))
    server, client = lab.host("server", "10.77.0.1/24"), lab.host("client", "10.77.0.9/24")
    configuration = json.loads((tmp_path / "etc/kea/kea-dhcp4.conf").read_text())["Dhcp4"]
    old_server = kea(server, tmp_path, 4, configuration)
    tftp_server = start_unpacked(
        server, "in.tftpd", "--foreground", "--secure", "--user", "root", tmp_path / "srv/tftp"
    )
    files_before = {kind: probed_files(client, "-i", "eth0", "--as", kind) for kind in ("bios", "uefi")}
    assert files_before == {"bios": [("TFTP", "pxelinux.0")], "uefi": [("TFTP", "shimx64.efi")]}
    tftp_server.stop()
    replace(server, old_server, "from-kea.md", tmp_path, 67, 69, 4011)
    assert {kind: probed_files(client, "-i", "eth0", "--as", kind) for kind in ("bios", "uefi")} == files_before


def wait_for_boot(machine: Program, text: str) -> None:
    """The machine boots what says *text* on its console, and is switched off."""
    machine.wait_until(lambda: text in machine.output, SECONDS, f"{text} on the console")
    machine.stop()


@pytest.mark.firmware  # the same is probed above
def test_guests_boot_from_dnsmasq_with_tftpd_hpa_and_then_from_bootfw(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box with both servers is changed over as the page says; what a BIOS and a UEFI guest boot stays the same."""
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(tmp_path / "state"))
    need("dnsmasq")
    need(SHIM)
    need(GRUB)
    create_files(tmp_path)
    root = tmp_path / "srv/tftp"
    shutil.copy(SHIM, root / "shimx64.efi")
    shutil.copy(GRUB, root / "grubx64.efi")
    marker = f"marker-{secrets.token_hex(8)}"
    (root / "boot.ipxe").write_text(f"#!ipxe\necho iPXE {marker}\nshell\n")
    (root / "grub").mkdir()
    (root / "grub/grub.cfg").write_text(f"echo GRUB {marker}\nhalt\n")
    lines = [
        line
        for line in with_paths_below(blocks("from-dnsmasq.md", "")[0], tmp_path).splitlines()
        if not line.startswith(("enable-tftp", "tftp-root", "dhcp-script"))
    ]
    (tmp_path / "etc/dnsmasq.conf").write_text("\n".join(lines) + "\n")
    (tmp_path / "etc/default/tftpd-hpa").write_text(f'TFTP_DIRECTORY="{root}"\n')
    leases = tmp_path / "var/lib/misc/dnsmasq.leases"
    server = lab.host("server", "10.77.0.1/24")
    old_server = server.start(
        *("dnsmasq", "--keep-in-foreground", f"--conf-file={tmp_path}/etc/dnsmasq.conf", "--user=root"),
        *("--pid-file=", "--log-facility=-", f"--dhcp-leasefile={leases}", "--no-ping"),
    )
    old_server.wait_until_bound(67)
    tftp_server = start_unpacked(server, "in.tftpd", "--foreground", "--secure", "--user", "root", root)

    def boot() -> None:
        wait_for_boot(start_bios_machine(lab, "e1000"), f"iPXE {marker}")
        wait_for_boot(start_uefi_machine(lab), f"GRUB {marker}")

    boot()
    tftp_server.stop()
    both_configurations = f"{tmp_path}/etc/dnsmasq.conf {tmp_path}/etc/default/tftpd-hpa"
    replace(server, old_server, "from-dnsmasq.md", tmp_path, 67, 69, imported_files=both_configurations)
    boot()
