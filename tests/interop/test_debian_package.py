"""The Debian package: built, installed, serving, upgraded and purged, with what each release of Debian has itself."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from howtos import blocks

from .chroots import Chroot, copy_source
from .firmware.servers import start_address_server, start_router
from .lab import Lab, need
from .machines.bios import start_bios_machine
from .qemu import SECONDS

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian 12 and 13, and their Python. Ubuntu 24.04 has debhelper of the same compatibility level."""

BUILDING, INSTALLING = blocks("packages.md", "console")[:2]

CONFIGURATION = "etc/bootfw/bootfw.toml"


@pytest.fixture(scope="module", params=SUITES)
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroot]:
    system = Chroot.create(tmp_path_factory.mktemp("system") / request.param, request.param)
    yield system
    system.remove()


@pytest.fixture(scope="module")
def package(system: Chroot) -> Iterator[Path]:
    """bootfw_VERSION_all.deb, as `tools/build-deb` builds it on that release."""
    build_system = system.copy(system.path.with_name("building"))
    copy_source(build_system.path / "source")
    dependencies_command, build_command = (line.removeprefix("# ").removeprefix("$ ") for line in BUILDING.splitlines())
    for command in (f"{dependencies_command} --yes --no-install-recommends", build_command):
        build_system.run("sh", "-c", f"cd /source && {command}")
    (deb,) = (build_system.path / "source/dist").glob("*.deb")
    yield deb
    build_system.remove()


def newer_package(package: Path, directory: Path) -> Path:
    """The same package with a later version, and a line more in its configuration."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, directory], check=True)
    control = directory / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*", "Version: 99", control.read_text(), flags=re.MULTILINE))
    with (directory / CONFIGURATION).open("a") as file:
        file.write("# new in 99\n")
    deb = directory.with_name("bootfw_99_all.deb")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", directory, deb], check=True, stdout=subprocess.DEVNULL)
    return deb


def test_the_package_is_installed_serves_is_upgraded_and_purged(
    system: Chroot, package: Path, lab: Lab, tmp_path: Path
) -> None:
    need("tftp")
    files_before = system.files()
    shutil.copytree(package.parent, system.path / "tmp/dist")
    system.run("sh", "-c", f"cd /tmp && {INSTALLING.removeprefix('# ').strip()} --yes --no-install-recommends")

    assert re.match(r"bootfw:x:\d+:\d+:", system.run("getent", "passwd", "bootfw"))
    assert (system.path / "etc/systemd/system/multi-user.target.wants/bootfw.service").is_symlink()
    assert not (system.path / "etc/systemd/system/sockets.target.wants/bootfw.socket").is_symlink()
    check_output = system.run("bootfw", "run", "--check", "--config", f"/{CONFIGURATION}")
    assert check_output.splitlines()[0] == f"/{CONFIGURATION}: OK"

    # As the unit starts it: with its command and its account.
    (unit,) = (path for path in system.path.glob("*lib/systemd/system/bootfw.service") if path.is_file())
    command = re.search(r"^ExecStart=(.*)", unit.read_text(), re.MULTILINE)
    assert command
    host = lab.host("bootfw", "10.77.0.1/24")
    start_address_server(lab)
    start_router(lab)
    server = host.start(*system.command("env", "BOOTFW_USER=bootfw", *command[1].split()), name="bootfw")
    server.wait_until_bound(67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_until(lambda: "bootfw is here" in console.output, SECONDS, "the greeting on the console")
    fetched = tmp_path / "boot.ipxe"
    result = lab.host("client", "10.77.0.2/24").run(
        "tftp", "10.77.0.1", "-m", "octet", "-c", "get", "boot.ipxe", fetched, seconds=60
    )
    assert fetched.read_text().startswith("#!ipxe"), result.output
    server.stop()
    assert "Server Shut Down" in server.output

    # The operator's configuration and the state outlive an upgrade, the packages of the distribution do not matter.
    (system.path / CONFIGURATION).write_text("[tftp]\nmax-blksize = 1400\n")
    state = system.path / "var/lib/bootfw/leases"
    state.parent.mkdir(exist_ok=True)
    state.touch()
    shutil.copy(newer_package(package, tmp_path / "newer"), system.path / "tmp")
    system.run("dpkg", "--force-confdef", "--force-confold", "--install", "/tmp/bootfw_99_all.deb")
    assert (
        system.run("dpkg-query", "--show", "--showformat=${Version} ${Status}", "bootfw") == "99 install ok installed"
    )
    assert (system.path / CONFIGURATION).read_text() == "[tftp]\nmax-blksize = 1400\n"
    assert "# new in 99" in (system.path / f"{CONFIGURATION}.dpkg-dist").read_text()
    assert state.exists()

    system.run("apt-get", "-qq", "-y", "remove", "bootfw")
    assert (system.path / CONFIGURATION).exists()
    assert state.exists()
    system.run("apt-get", "-qq", "-y", "purge", "bootfw")
    system.run("apt-get", "-qq", "-y", "--purge", "autoremove")
    leftover = {
        path for path in system.files() - files_before if not path.startswith(("/var/cache/", "/var/log/", "/tmp/"))
    }
    assert {path for path in leftover if "bootfw" in path or "twisted" in path} == set()
