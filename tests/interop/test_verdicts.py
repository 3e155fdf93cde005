"""Boots that are made to fail in one way each, by ``bootfw probe`` as the client: bootfw says why."""

import json
import sys
from pathlib import Path

import pytest

from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.record import attempt_of

from .lab import Host, Lab, Program, need, wait_until
from .service import start_bootfw

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

COMMAND = str(Path(sys.executable).with_name("bootfw"))

CONFIGURATION = """
[bootfw]
state-dir = "{state}"
[boots]
quiet-seconds = 3
[tftp]
listen = ["0.0.0.0:69"]
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.{last}"]
[[backend]]
use = "directory"
root = "{root}"
[[resolver]]
use = "by-architecture"
files = {{x86_64-uefi = "shim.efi", x86-bios = "debian/pxelinux", arm64-uboot = "shim.efi"}}
"""

DROPPED = {
    "no-transfer": "chain i { type filter hook input priority 0; udp sport 69 drop; }",
    "path-mtu": "chain i { type filter hook input priority 0; udp sport 69 meta length > 1000 drop; }",
}
"""Cause -> what the client's network drops."""


def mac_of(host: Host) -> str:
    return host.run("cat", "/sys/class/net/eth0/address", seconds=10).output.strip()


def probes(host: Host, profile: str) -> Program:
    """A boot from *host*; it ends by itself."""
    return host.start(COMMAND, "probe", "-i", "eth0", "--as", profile, "--mac", mac_of(host))


def the_boot_of(server: Host, configuration: Path, mac: str) -> BootAttempt:
    """The latest boot of a machine, once there is a verdict."""

    def ended() -> BootAttempt | None:
        ran = server.run(COMMAND, "show", "-c", configuration, mac, "--json", seconds=30)
        attempts = [attempt_of(record) for record in json.loads(ran.output)]
        return attempts[0] if attempts and attempts[0].verdict is not Verdict.IN_PROGRESS else None

    found = wait_until(ended, 90, f"a verdict on {mac}")
    assert found is not None
    return found


def test_each_failure_has_its_cause(lab: Lab, tmp_path: Path) -> None:
    need("nft")
    root = tmp_path / "root"
    (root / "debian").mkdir(parents=True)
    (root / "shim.efi").write_bytes(b"MZ" + bytes(100_000))
    (root / "debian" / "pxelinux.0").write_bytes(bytes(40_000))
    server = lab.host("server", "10.77.0.1/24")
    text = CONFIGURATION.format(state=tmp_path / "state", root=root, last=150)
    start_bootfw(server, tmp_path, text, 67, 69)
    machines = {}
    for number, (cause, rule) in enumerate(DROPPED.items()):
        host = lab.host(f"m{number}", f"10.77.0.{20 + number}/24")
        path = tmp_path / f"{number}.nft"
        path.write_text(f"table inet lost {{\n{rule}\n}}\n")
        done = host.run("nft", "--file", path, seconds=10)
        assert done.exit_code == 0, done.output
        machines[cause] = host
    machines["missing-file"] = lab.host("m8", "10.77.0.28/24")
    machines[""] = lab.host("m9", "10.77.0.29/24")
    boots = [probes(host, "bios" if cause == "missing-file" else "uefi") for cause, host in machines.items()]
    for boot in boots:
        boot.wait(120)
    found = {
        cause: the_boot_of(server, tmp_path / "bootfw-server-67.toml", mac_of(host)) for cause, host in machines.items()
    }
    told = {cause: attempt.cause.key if attempt.cause else "" for cause, attempt in found.items()}
    assert told == {cause: cause for cause in machines}
    missing = found["missing-file"].cause
    assert missing is not None
    assert '"debian/pxelinux.0"' in missing.sentence
