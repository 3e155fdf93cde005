"""``bootfw storm`` against real servers in its own network namespaces: bootfw, and dnsmasq."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from howtos import blocks

from .lab import need, wait_until

pytestmark = pytest.mark.interop

BOOTFW = """
[bootfw]
state-dir = "{root}/state"
workers = 1
[tftp]
listen = ["0.0.0.0:69"]
[http]
listen = ["0.0.0.0:80"]
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/16"
pool = ["10.77.1.0-10.77.8.0"]
[[backend]]
use = "directory"
root = "{root}/files"
[[resolver]]
use = "by-architecture"
[resolver.files]
ipxe = "{{http}}/boot.ipxe"
x86-bios = "loader"
x86_64-uefi = "loader"
x86_64-uefi-http = "{{http}}/loader"
arm64-uboot = "loader"
"""

ADDRESSES = """
port=0
no-ping
interface=eth0
bind-interfaces
dhcp-range=10.77.1.0,10.77.8.0,255.255.0.0
dhcp-leasefile={root}/leases
user=root
"""

DNSMASQ = f"""{ADDRESSES}
enable-tftp
tftp-root={{root}}/files
tftp-no-fail
tftp-max=500
dhcp-boot=loader
"""

BOOTFW_PROXY = """
[bootfw]
state-dir = "{root}/state"
workers = 1
[tftp]
listen = ["0.0.0.0:69"]
[dhcp]
mode = "proxy"
[[backend]]
use = "directory"
root = "{root}/files"
[[resolver]]
use = "pxe-menu"
timeout-seconds = 0
[[resolver.items]]
description = "Boot"
file = "pxeboot.emu"
"""

DNSMASQ_PROXY = """
port=0
interface=eth0
bind-interfaces
dhcp-range=10.77.0.0,proxy,255.255.0.0
pxe-service=x86PC,Boot,pxeboot.emu
enable-tftp
tftp-root={root}/files
user=root
"""

FILES = (
    *(
        "loader",
        "pxeboot.emu",
        "vmlinuz",
        "initrd.img",
        "ldlinux.c32",
        "pxelinux.cfg/default",
        "boot.ipxe",
        "grub/grub.cfg",
    ),
    *("boot/loader.rc", "boot/loader.4th", "boot/support.4th", "boot/defaults/loader.conf", "boot/device.hints"),
    *("boot/kernel/kernel", "boot/mfsroot.gz"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    need("ip")
    need("nft")
    for name in FILES:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 2000)
    return tmp_path


STORM_COMMAND = (sys.executable, "-m", "bootfw.cli.main", "storm")


def storm(root: Path, server: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run it; (exit code, its JSON)."""
    command = [*STORM_COMMAND, "--lab", server, "--json", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=root)
    assert result.stdout, result.stderr
    return result.returncode, json.loads(result.stdout)


def bootfw(root: Path) -> str:
    (root / "bootfw.toml").write_text(BOOTFW.format(root=root))
    return f"{sys.executable} -m bootfw.cli.main run -c {root}/bootfw.toml"


BOOTS = ("emulab", "ipxe-http", "chain-ipxe-http", "pxelinux", "uefi-grub", "uefi-http", "u-boot")


def test_every_built_in_boot_completes(root: Path) -> None:
    boot_options = [word for boot in BOOTS for word in ("--boot", boot)]
    code, report = storm(root, bootfw(root), "-n", "70", *boot_options)
    assert (code, report["booted"], report["failures"]) == (0, 70, {})
    assert {stage["boot"] for stage in report["stages"]} == {*BOOTS}
    size = len("loader") * 2000
    (uboot_stage,) = (stage for stage in report["stages"] if stage["stage"] == "u-boot: {file}")
    assert (uboot_stage["machines"] > 5, uboot_stage["bytes"]) == (True, uboot_stage["machines"] * size)


def test_all_machines_boot_over_a_lossy_link_with_retries(root: Path) -> None:
    code, report = storm(
        root,
        bootfw(root),
        *("-n", "40", "--boot", "u-boot", "--boot", "ipxe-http", "--arrival", "racks", "--rack", "10"),
        *("--rack-seconds", "1", "--loss", "0.02", "--duplication", "0.02", "--reordering", "0.02", "--delay", "0.001"),
    )
    assert (code, report["booted"]) == (0, 40)
    assert sum(stage["retries"] for stage in report["stages"]) > 0


def test_dnsmasq_can_be_the_target(root: Path) -> None:
    need("dnsmasq")
    (root / "dnsmasq.conf").write_text(DNSMASQ.format(root=root))
    code, report = storm(root, f"dnsmasq --no-daemon --conf-file={root}/dnsmasq.conf", "-n", "20", "--boot", "emulab")
    assert (code, report["booted"], report["failures"]) == (0, 20, {})


@pytest.mark.parametrize("proxy", ["bootfw", "dnsmasq"])
def test_a_proxy_beside_a_dhcp_server_has_port_4011(root: Path, proxy: str) -> None:
    need("dnsmasq")
    (root / "addresses.conf").write_text(ADDRESSES.format(root=root))
    (root / "bootfw.toml").write_text(BOOTFW_PROXY.format(root=root))
    (root / "proxy.conf").write_text(DNSMASQ_PROXY.format(root=root))
    servers = {
        "bootfw": f"{sys.executable} -m bootfw.cli.main run -c {root}/bootfw.toml",
        "dnsmasq": f"dnsmasq --no-daemon --conf-file={root}/proxy.conf",
    }
    addresses = f"dnsmasq --no-daemon --conf-file={root}/addresses.conf"
    code, report = storm(root, servers[proxy], "--lab", addresses, "-n", "20", "--boot", "emulab")
    assert (code, report["booted"], report["failures"]) == (0, 20, {})
    (requests,) = (stage for stage in report["stages"] if stage["stage"] == "pxe-rom: port 4011")
    assert requests["completed"] == 20


def test_killed_storm_leaves_no_namespace_or_process(root: Path) -> None:
    """Not its namespaces either, which exist as long as a process is in them; and no larger table of neighbours."""
    neighbour_limit = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    limit_before = int(neighbour_limit.read_text())
    server = "sh -c 'sleep 600 & exec sleep 601'"
    storm = subprocess.Popen(
        [*STORM_COMMAND, "--lab", server, "--warm-up", "0", "-n", "2", "--boot", "emulab", "--processes", "1"], cwd=root
    )
    try:
        processes = wait_until(
            lambda: _descendants(storm.pid, 4), 60, "two processes of the server, guards, a simulator"
        )
    finally:
        storm.send_signal(signal.SIGKILL)
        storm.wait(60)
    wait_until(lambda: not any(map(_is_running, processes)), 60, "their end")
    # Storms of other tests may have made it larger.
    wait_until(
        lambda: int(neighbour_limit.read_text()) <= limit_before, 300, "the table of neighbours is as large as it was"
    )


def _descendants(pid: int, count: int) -> list[int]:
    """All processes below *pid*, if there are as many; otherwise []."""
    pids = [pid]
    for descendant in pids:
        for children in Path(f"/proc/{descendant}/task").glob("*/children"):
            try:
                pids += map(int, children.read_text().split())
            except OSError:
                continue
    return pids[1:] if len(pids) > count else []


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_machines_that_do_not_boot_are_failures_with_their_stage(root: Path) -> None:
    (root / "files" / "boot" / "mfsroot.gz").unlink()
    code, report = storm(root, bootfw(root), "-n", "3", "--boot", "emulab")
    assert (code, report["failed"]) == (1, 3)
    assert report["failures"] == {"freebsd-loader: /boot/mfsroot.gz: error 1": 3}


def test_the_storm_of_the_howto(root: Path) -> None:
    page = "storm.md"
    (root / "bootfw.toml").write_text(
        f'[bootfw]\nstate-dir = "{root}/state"\n{blocks(page, "toml")[0]}\n'
        f'[[backend]]\nuse = "directory"\nroot = "{root}/files"\n[[resolver]]\nuse = "static"\nfile = "loader"\n'
    )
    page_lines = blocks(page, "console")[0].splitlines()
    command = shlex.split(page_lines[0].removeprefix("# bootfw ").replace("200", "20"))
    program = f"{sys.executable} -m bootfw.cli.main"
    command = [word.replace("bootfw run", f"{program} run") for word in command]
    result = subprocess.run([*program.split(), *command], capture_output=True, text=True, timeout=100, cwd=root)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    for line in page_lines[1:5]:
        assert any(_shape(line) == _shape(printed) for printed in lines), line
    # On a machine that is busy with other tests, it says so.
    assert _shape(page_lines[-1]) == _shape(lines[-1].removesuffix(": IT WAS THE LIMIT, not the server"))


def _shape(line: str) -> str:
    """A line without its figures; a number of retries says of how many machines they are."""
    return " ".join(re.sub(r"\d+(\.\d+)?( of \d+(?! machines))?", "N", line).split())


def test_the_scenario_of_the_howto(root: Path) -> None:
    (root / "storm.toml").write_text(blocks("storm.md", "toml")[1].replace("machines = 200", "machines = 8"))
    (root / "files" / "wnos.ini").write_text("x")
    code, report = storm(root, bootfw(root), "storm.toml", "--slow", "0", "--rack-seconds", "0")
    assert (code, report["booted"]) == (0, 8)
    assert {stage["boot"] for stage in report["stages"]} == {"ipxe-http", "thin-client"}
