"""Targets: the files that operators put into the boot tree: archives, configurations of boot programs, host files."""

import io
from collections.abc import Callable, Iterator
from contextlib import suppress

import archives
import bootprograms

from bootfw.backends.archive.contents import ArchiveError, Stored
from bootfw.backends.archive.iso import read_iso
from bootfw.backends.archive.tar import is_tar, read_tar
from bootfw.backends.archive.zip import read_zip
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.hosts import HostFileError, Hosts
from bootfw.backends.names import Identifiers, searched
from bootfw.lint.entries import User
from bootfw.lint.rules import lint
from bootfw.lint.tree import Tree
from fuzz.target import Target, scratch


def archive(data: bytes) -> None:
    """Archives are read or refused with ArchiveError, and no member lies outside of its archive."""
    is_tar(io.BytesIO(data))
    for read in (read_tar, read_zip, read_iso):
        try:
            contents = read(io.BytesIO(data), len(data))
        except ArchiveError:
            continue
        for name in list(contents.members):
            assert ".." not in name.split("/")
            contents.find(name)
            member = contents.members[name]
            if isinstance(member, Stored):
                assert all(0 <= offset <= offset + length <= len(data) for offset, length in member.runs), name
        for name in contents.links:
            contents.find(name)


def _archives() -> Iterator[bytes]:
    files = {"boot/a": b"inside" * 5, "b": b""}
    links = {"link": "boot/a", "out": "../../b", "circle": "circle"}
    path = scratch() / "archive"
    makers: tuple[Callable[[], object], ...] = (
        lambda: archives.make_tar(path, files, links),
        lambda: archives.make_zip(path, files),
        lambda: archives.make_zip(path, files, 8),
        lambda: archives.make_iso(path, files, links),
    )
    for make in makers:
        path.unlink(missing_ok=True)
        make()
        yield path.read_bytes()


def boot_files(data: bytes) -> None:
    """`bootfw lint` reads any boot program or configuration without an error of its own."""
    root = scratch() / "tree"
    for name in ("pxelinux.cfg/default", "grub/grub.cfg", "boot.ipxe", "loader.efi"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    backend = DirectoryBackend(root)
    for finding in lint(Tree(backend, [(root, backend)]), [], User("root", 0, frozenset({0}))):
        assert finding.reason


def _boot_files() -> Iterator[bytes]:
    yield b"DEFAULT linux\nLABEL linux\n  KERNEL vmlinuz\n  APPEND initrd=initrd.img root=/dev/ram0\n  IPAPPEND 2\n"
    yield b'set prefix=(tftp)/grub\nmenuentry "x" {\n  linux /vmlinuz quiet\n  initrd (http,10.0.0.1)/initrd.img\n}\n'
    yield b"#!ipxe\n:again\nkernel http://h/vmlinuz initrd=i || goto again\ninitrd i\nchain ${next}\nboot\n"
    yield bootprograms.pe(bootprograms.X64)


def host_files(data: bytes) -> None:
    """A host file is read or reported, never raised, and names of files are searched for identifiers."""
    directory = scratch() / "hosts"
    (directory / "groups").mkdir(parents=True, exist_ok=True)
    for name in ("web1.toml", "defaults.toml", "groups/rack1.toml", "web2.yaml"):
        (directory / name).write_bytes(data)
    hosts = Hosts(directory, None)
    hosts.problems()
    for identifiers in (Identifiers(mac="52:54:00:12:34:56"), Identifiers(name="web1"), Identifiers()):
        with suppress(HostFileError):
            hosts.find([identifiers])
    assert all(isinstance(key, str) for key in searched(data.decode("utf-8", "surrogateescape")).keys)


def _host_files() -> Iterator[bytes]:
    yield b'mac = ["52:54:00:12:34:56"]\nuuid = "52420077-1234-4abc-9def-0123456789ab"\ngroups = ["rack1"]\n[x]\ny=1\n'
    yield b"mac: 52:54:00:12:34:56\naddress: [10.77.0.9]\nx: &a {y: 1}\nz: *a\n"
    yield b"pxelinux.cfg/01-52-54-00-12-34-56"
    yield b"grub.cfg-0A4D0064"


TARGETS = (
    Target("archive", archive, _archives, 80_000),
    Target("boot-files", boot_files, _boot_files, 2000),
    Target("host-files", host_files, _host_files, 2000),
)
