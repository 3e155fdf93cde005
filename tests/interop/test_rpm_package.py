"""The RPM package, built and unpacked on Debian. Debian has no repository of RPM packages, so nothing installs what it
requires; it runs with what the tests have."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from howtos import blocks

from .chroots import copy_source
from .lab import need

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

BUILD = blocks("packages.md", "console")[2].strip().removeprefix("$ ")


def output(*command: str | Path, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_rpm_is_built_and_its_files_work(tmp_path: Path) -> None:
    need("rpmbuild")
    copy_source(tmp_path / "source")
    output("sh", "-c", f"{BUILD} dist --nodeps", cwd=tmp_path / "source")
    (package,) = (tmp_path / "source/dist").glob("bootfw-*.noarch.rpm")
    assert output("rpm", "--query", "--configfiles", "--package", package, cwd=tmp_path) == "/etc/bootfw/bootfw.toml\n"

    # The floors of setup.cfg are those of the package.
    setup = (tmp_path / "source/setup.cfg").read_text()
    requirements = re.search(r"^install_requires =\n((?:    .*\n)+)", setup, re.MULTILINE)
    assert requirements
    rpm_requires = output("rpm", "--query", "--requires", "--package", package, cwd=tmp_path)
    for line in requirements[1].splitlines():
        name, _, minimum = line.split()
        name = name.replace(".", "-")
        assert f"python3-{name} >= {minimum}\n" in rpm_requires

    root = tmp_path / "root"
    root.mkdir()
    output("rpm", "--root", root, "--install", "--nodeps", "--noscripts", package, cwd=tmp_path)
    (packages,) = root.glob("usr/lib/python3*/*-packages")
    bootfw = (sys.executable, root / "usr/bin/bootfw")
    configuration = root / "etc/bootfw/bootfw.toml"
    check_output = output(*bootfw, "run", "--check", "--config", configuration, cwd=root, PYTHONPATH=str(packages))
    assert check_output.splitlines()[0] == f"{configuration}: OK"
    module_path = output(
        sys.executable, "-c", "import bootfw; print(bootfw.__file__)", cwd=root, PYTHONPATH=str(packages)
    )
    assert module_path == f"{packages}/bootfw/__init__.py\n"
    assert (root / "usr/lib/systemd/system/bootfw.service").is_file()
    assert str(tmp_path) not in "".join(path.read_text() for path in packages.glob("bootfw-*.dist-info/*"))
