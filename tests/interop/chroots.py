"""Systems of a distribution in a directory each, where packages are built, installed and started."""

import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

from .lab import need

_PROJECT = Path(__file__).parents[2]

_STEP_SECONDS = 600
"""Seconds that a step may take: packages are fetched from a mirror, on a machine that does other work."""

_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")

_ENTER = 'mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"'
"""What is mounted goes with the mount namespace, which has to be one of its own."""


@frozen
class Chroot:
    """A system of Debian, with a minimum of packages."""

    path: Path

    @classmethod
    def create(cls, path: Path, suite: str) -> "Chroot":
        """Make a chroot of a release by mmdebstrap. The test is skipped where the release can't be fetched."""
        need("mmdebstrap")
        result = _run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", suite, path)
        if result.returncode:
            pytest.skip(f"mmdebstrap gets no {suite} here: {result.stderr[-500:]}")
        chroot = cls(path)
        chroot.run("apt-get", "-qq", "update")
        return chroot

    def copy(self, path: Path) -> "Chroot":
        """Make another chroot with the same packages."""
        result = _run("cp", "--archive", self.path, path)
        assert result.returncode == 0, result.stderr
        return Chroot(path)

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs *command* there, for a process in a mount namespace of its own, such as one that
        `Host.start` starts. It replaces the process, which keeps its id."""
        return ["sh", "-c", _ENTER, "sh", str(self.path), *_ENVIRONMENT, *map(str, command)]

    def run(self, *command: str | Path) -> str:
        """Run *command* to its end and return its output. The test fails if it fails."""
        result = _run("unshare", "--mount", "--pid", "--fork", "--kill-child", *self.command(*command))
        assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"
        return result.stdout

    def install(self, *packages: str) -> None:
        """Install packages, by name or by path there, and what they need."""
        self.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages)

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path)

    def files(self) -> set[str]:
        """The paths of all files and directories, as seen there."""
        return {"/" + str(path.relative_to(self.path)) for path in self.path.rglob("*")}


def copy_source(destination: Path) -> None:
    """Copy what packages are built from, as an archive of the source has it."""
    excluded = (".*", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache", "tests", "docs", "benchmarks")
    shutil.copytree(_PROJECT, destination, ignore=shutil.ignore_patterns(*excluded))


def _run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_STEP_SECONDS,
        check=False,
    )
