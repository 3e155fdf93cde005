"""Systems of a distribution in a directory each, where packages are built, installed and started."""

import shutil
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

from .lab import need

_PROJECT = Path(__file__).parents[2]

_STEP = 600
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
        """Fetch one by mmdebstrap. The test is skipped where there is none of that release."""
        need("mmdebstrap")
        done = _run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", suite, path)
        if done.returncode:
            pytest.skip(f"mmdebstrap gets no {suite} here: {done.stderr[-500:]}")
        made = cls(path)
        made.run("apt-get", "-qq", "update")
        return made

    def copy(self, path: Path) -> "Chroot":
        """Another one with the same packages."""
        done = _run("cp", "--archive", self.path, path)
        assert done.returncode == 0, done.stderr
        return Chroot(path)

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs *command* there, for a process in a mount namespace of its own, such as one that
        `Host.start` starts. It replaces the process, which keeps its id."""
        return ["sh", "-c", _ENTER, "sh", str(self.path), *_ENVIRONMENT, *map(str, command)]

    def run(self, *command: str | Path) -> str:
        """What *command* prints; when it fails, so does the test, with that. No process of it remains."""
        done = _run("unshare", "--mount", "--pid", "--fork", "--kill-child", *self.command(*command))
        assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install packages, by name or by path there, and what they need."""
        self.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages)

    def remove(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path)

    def files(self) -> set[str]:
        """The paths of all files and directories, as seen there."""
        return {"/" + str(path.relative_to(self.path)) for path in self.path.rglob("*")}


def copy_source(into: Path) -> None:
    """Copy what packages are built from, as an archive of the source has it."""
    left_out = (".*", "build", "dist", "*.egg-info", "__pycache__", "dropin.cache", "tests", "docs", "benchmarks")
    shutil.copytree(_PROJECT, into, ignore=shutil.ignore_patterns(*left_out))


def _run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_STEP,
        check=False,
    )
