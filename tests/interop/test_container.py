"""The container image: built by buildah, and started with the command, the account and the capabilities of its page.

It is not started by podman or docker: these need more of the machine than a container that runs the tests has.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from howtos import blocks

from .chroots import Chroot, copy_source
from .lab import Lab, need

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

BUILD, RUN = (block.strip().removeprefix("$ ").removeprefix("# ") for block in blocks("packages.md", "console")[-2:])

DEFAULT = (
    "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+net_bind_service,+setfcap,+setgid,+setpcap,+setuid,+sys_chroot"
)
"""The capabilities of a container of podman, if none is added or dropped."""


@frozen
class Image:
    """An image, and its files."""

    config: dict[str, Any]
    root: Chroot

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
    building = base.copy(directory / "building")
    shutil.copytree(directory / "source", building.path / "source")
    building.run(
        "sh", "-c", "cd /source && apt-get -qqy --no-install-recommends build-dep ./packaging && tools/build-deb"
    )
    shutil.copytree(building.path / "source/dist", directory / "source/dist")
    building.remove()

    def buildah(*arguments: str | Path) -> str:
        storage = ["--storage-driver", "vfs", "--root", str(directory / "store"), "--runroot", str(directory / "run")]
        done = subprocess.run(
            ["buildah", *storage, *map(str, arguments)],
            cwd=directory / "source",
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    scratch = buildah("from", "scratch")
    buildah("add", "--quiet", scratch, base.path, "/")
    buildah("commit", "--rm", scratch, "localhost/base")
    base.remove()
    program, verb, *rest = BUILD.split()
    assert (program, verb) == ("buildah", "build")
    buildah(verb, "--pull-never", "--build-arg", "BASE=localhost/base", *rest)
    name = rest[rest.index("--tag") + 1]
    config = json.loads(buildah("inspect", "--type", "image", name))["Docker"]["config"]
    working = buildah("from", "--pull-never", name)
    yield Image(config, Chroot(Path(buildah("mount", working))))
    buildah("umount", working)
    shutil.rmtree(directory)


def test_the_image_serves_and_knows_whether_it_is_healthy(image: Image, lab: Lab, tmp_path: Path) -> None:
    need("tftp")
    assert "--network host" in RUN, "the page starts it as this test does"
    added = re.findall(r"--cap-add (\w+)", RUN)
    assert added == ["NET_RAW"]
    capabilities = ",".join([DEFAULT, *(f"+{name.lower()}" for name in added)])
    limited = ["env", *image.environment, "setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    healthy = image.config["Healthcheck"]["Test"]
    assert healthy[0] == "CMD"

    boot = image.root.path / "srv/boot"  # a volume
    boot.mkdir(exist_ok=True)
    (boot / "hello.ipxe").write_text("#!ipxe\necho hello\n")
    host = lab.host("bootfw", "10.77.0.1/24")
    check = image.root.command(*limited, *healthy[1:])
    assert host.run(*check, seconds=60).exit_code not in (0, None)
    server = host.start(*image.root.command(*limited, *image.command), name="bootfw")
    server.wait_until_bound(67, 69, 4011)
    server.wait_until(lambda: "every wanted socket is bound" in server.output, 60, "it is ready")
    shown = host.run(*check, seconds=60)
    assert shown.exit_code == 0, shown.output
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner == int(image.root.run("id", "--user", "bootfw")), "root is given up"
    fetched = tmp_path / "hello.ipxe"
    client = lab.host("client", "10.77.0.2/24")
    got = client.run("tftp", "10.77.0.1", "-m", "octet", "-c", "get", "hello.ipxe", fetched, seconds=60)
    assert fetched.read_text() == "#!ipxe\necho hello\n", got.output
    server.stop()
    assert "Server Shut Down" in server.output
