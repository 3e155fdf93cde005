"""The container image: built by buildah, started with the capabilities of its page, and by podman as the page says."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from howtos import blocks, read

from .chroots import Chroot, copy_source
from .lab import Host, Lab, Program, need, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

BUILD, RUN = (block.strip().removeprefix("$ ").removeprefix("# ") for block in blocks("packages.md", "console")[-2:])

COMMAND = str(Path(sys.executable).with_name("bootfw"))

DEFAULT = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+net_bind_service,+setfcap,+setgid,+setpcap,+setuid,+sys_chroot"
)
"""The capabilities of a container of podman, if none is added or dropped."""


CONTAINERS = """\
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
static_dir = "{directory}/libpod"
tmp_dir = "{directory}/tmp"
volume_path = "{directory}/volumes"
"""
"""Podman needs no control groups, no systemd and no higher limits than this process has, and leaves nothing behind."""

STORAGE = """\
[storage]
driver = "vfs"
graphroot = "{directory}/store"
rootless_storage_path = "{directory}/store"
runroot = "{directory}/run"
"""


def podman_settings(directory: Path) -> dict[str, str]:
    """The environment in which buildah and podman store everything in *directory*."""
    environment = {}
    for name, text in (("CONTAINERS_CONF", CONTAINERS), ("CONTAINERS_STORAGE_CONF", STORAGE)):
        path = directory / name.lower()
        path.write_text(text.format(directory=directory))
        environment[name] = str(path)
    return environment


@frozen
class Image:
    """An image, its files, and the environment in which buildah and podman have it."""

    config: dict[str, Any]
    root: Chroot
    storage: dict[str, str]

    @property
    def command(self) -> list[str]:
        """What is started."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def environment(self) -> list[str]:
        return [f"{variable}" for variable in self.config["Env"] if not variable.startswith("PATH=")]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """The image of the page, on a base that mmdebstrap makes."""
    need("buildah")
    directory = tmp_path_factory.mktemp("container")
    base = Chroot.create(directory / "base", "bookworm")
    copy_source(directory / "source")
    build_system = base.copy(directory / "building")
    shutil.copytree(directory / "source", build_system.path / "source")
    build_system.run(
        "sh", "-c", "cd /source && apt-get -qqy --no-install-recommends build-dep ./packaging && tools/build-deb"
    )
    shutil.copytree(build_system.path / "source/dist", directory / "source/dist")
    build_system.remove()

    storage = podman_settings(directory)

    def buildah(*arguments: str | Path) -> str:
        result = subprocess.run(
            ["buildah", *map(str, arguments)],
            cwd=directory / "source",
            env={**os.environ, **storage, "BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    scratch_container = buildah("from", "scratch")
    buildah("add", "--quiet", scratch_container, base.path, "/")
    buildah("commit", "--rm", scratch_container, "localhost/base")
    base.remove()
    program, verb, *rest = BUILD.split()
    assert (program, verb) == ("buildah", "build")
    buildah(verb, "--pull-never", "--build-arg", "BASE=localhost/base", *rest)
    name = rest[rest.index("--tag") + 1]
    config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
    container = buildah("from", "--pull-never", name)
    yield Image(config, Chroot(Path(buildah("mount", container))), storage)
    buildah("umount", container)
    shutil.rmtree(directory)


def test_the_image_serves_and_knows_whether_it_is_healthy(image: Image, lab: Lab, tmp_path: Path) -> None:
    need("tftp")
    assert "--network host" in RUN, "the page starts it as this test does"
    added_capabilities = re.findall(r"--cap-add (\w+)", RUN)
    assert added_capabilities == ["NET_RAW"]
    capabilities = ",".join([DEFAULT, *(f"+{name.lower()}" for name in added_capabilities)])
    with_capabilities = [
        "env",
        *image.environment,
        "setpriv",
        f"--bounding-set={capabilities}",
        f"--inh-caps={capabilities}",
    ]
    health_command = image.config["Healthcheck"]["Test"]
    assert health_command[0] == "CMD"

    boot = image.root.path / "srv/boot"  # a volume
    boot.mkdir(exist_ok=True)
    (boot / "hello.ipxe").write_text("#!ipxe\necho hello\n")
    host = lab.host("bootfw", "10.77.0.1/24")
    check = image.root.command(*with_capabilities, *health_command[1:])
    assert host.run(*check, seconds=60).exit_code not in (0, None)
    server = host.start(*image.root.command(*with_capabilities, *image.command), name="bootfw")
    server.wait_until_bound(67, 69, 4011)
    server.wait_until(lambda: "every wanted socket is bound" in server.output, 60, "it is ready")
    healthy_check = host.run(*check, seconds=60)
    assert healthy_check.exit_code == 0, healthy_check.output
    owner_uid = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner_uid == int(image.root.run("id", "--user", "bootfw")), "root is given up"
    fetched = tmp_path / "hello.ipxe"
    client = lab.host("client", "10.77.0.2/24")
    result = client.run("tftp", "10.77.0.1", "-m", "octet", "-c", "get", "hello.ipxe", fetched, seconds=60)
    assert fetched.read_text() == "#!ipxe\necho hello\n", result.output
    server.stop()
    assert "Server Shut Down" in server.output


NOBODY = 65534
"""The number of the account `nobody`, and of its group."""


class Podman:
    """Podman on a host, with a /srv of the test; as root, or as a user with a storage of its own."""

    def __init__(self, host: Host, directory: Path, environment: dict[str, str], user: int = 0) -> None:
        self.host = host
        self._environment = environment
        mounts = ["mount -t tmpfs none /sys/fs/cgroup", f"mount --bind {directory}/srv /srv"]
        self._command = ["podman"]
        if user:
            (directory / "subordinate").write_text("nobody:100000:65536\n")
            mounts += [f"mount --bind {directory}/subordinate /etc/{name}" for name in ("subuid", "subgid")]
            self._command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "podman"]
        self._mounts = " && ".join(mounts)

    def __call__(self, *arguments: str) -> Program:
        """A command, when it has ended."""
        program = self.host.start(
            *self._command, *arguments, setup_command=self._mounts, environment=self._environment, directory=Path("/")
        )
        program.wait(240)
        return program

    def check_page_container(self, client: Host, directory: Path) -> None:
        """The container of the page serves DHCP and TFTP, knows that it is healthy, gives up root, and ends."""
        (directory / "srv/boot/hello.ipxe").write_text("#!ipxe\necho hello\n")
        program, *arguments = RUN.split()
        assert (program, arguments[-1]) == ("podman", "bootfw")
        run_result = self(*arguments)
        assert run_result.exit_code == 0, run_result.output
        try:
            wait_until(lambda: self("healthcheck", "run", "bootfw").exit_code == 0, 120, "every wanted socket is bound")
            fetched = directory / "hello.ipxe"
            result = client.run("tftp", "10.77.0.1", "-m", "octet", "-c", "get", "hello.ipxe", fetched, seconds=60)
            assert fetched.read_text() == "#!ipxe\necho hello\n", result.output
            probe = client.run(COMMAND, "probe", "10.77.0.1", "--as", "uefi", "--json", seconds=60)
            assert json.loads(probe.output)["boots"], probe.output
            owner = self("exec", "bootfw", "stat", "--format", "%U", "/proc/1")
            assert owner.output.strip() == "bootfw", "root is given up"
            stop_result = self("stop", "bootfw")
            assert stop_result.exit_code == 0, stop_result.output
            assert "Server Shut Down" in self("logs", "bootfw").output
        finally:
            self("rm", "--force", "--time", "10", "bootfw")


def test_podman_runs_it_as_the_page_says(image: Image, lab: Lab, tmp_path: Path) -> None:
    need("podman")
    need("tftp")
    (tmp_path / "srv/boot").mkdir(parents=True)
    podman = Podman(lab.host("bootfw", "10.77.0.1/24"), tmp_path, image.storage)
    podman.check_page_container(lab.host("client", "10.77.0.2/24"), tmp_path)


def test_podman_runs_it_without_root_where_its_ports_are_free_to_use(image: Image, lab: Lab, tmp_path: Path) -> None:
    need("podman")
    need("newuidmap")
    need("tftp")
    (tmp_path / "srv/boot").mkdir(parents=True)
    host = lab.host("bootfw", "10.77.0.1/24")
    setting = re.search(r"sysctl (net\.ipv4\.ip_unprivileged_port_start)=(\d+)", read("packages.md"))
    assert setting is not None
    result = host.run("sh", "-c", f"echo {setting[2]} >/proc/sys/{setting[1].replace('.', '/')}", seconds=60)
    assert result.exit_code == 0, result.output
    storage = Path(tempfile.mkdtemp(prefix="bootfw-podman-"))  # a path that another user can enter
    try:
        archive = storage / "image.tar"
        root_podman = Podman(host, tmp_path, image.storage)
        assert root_podman("save", "--output", str(archive), "bootfw").exit_code == 0
        environment = {"HOME": str(storage), "XDG_RUNTIME_DIR": str(storage), **podman_settings(storage)}
        for path in (storage, *storage.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        podman = Podman(host, tmp_path, environment, NOBODY)
        loaded = podman("load", "--input", str(archive))
        assert loaded.exit_code == 0, loaded.output
        podman.check_page_container(lab.host("client", "10.77.0.2/24"), tmp_path)
    finally:
        shutil.rmtree(storage)
