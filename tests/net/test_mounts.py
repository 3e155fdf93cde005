"""Which mounts can hang, and which paths lead there."""

from pathlib import Path

import pytest

from bootfw.net.linux.mounts import MountTable

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
24 23 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
25 22 0:40 / {top}/root/remote rw shared:2 master:1 - nfs4 server:/ rw
26 22 0:41 / {top}/root/with\040blank rw - fuse.sshfs host: rw
27 22 7:0 / {top}/root/iso rw - iso9660 /dev/loop0 ro
28 22 0:42 / {top}/unknown rw - newfs none rw
29 22 0:43 / {top}/was rw - autofs none rw
30 22 0:44 / {top}/was rw - tmpfs none rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> MountTable:
    (tmp_path / "root" / "directory").mkdir(parents=True)
    table = tmp_path / "mountinfo"
    table.write_text(TABLE.strip().format(top=tmp_path))
    return MountTable(table, lambda: 0.0)


def test_file_systems_without_a_disk_can_hang(mounts: MountTable, tmp_path: Path) -> None:
    names = ["root/remote", "root/with blank", "unknown"]
    assert mounts.hanging() == {str(tmp_path / name).encode() for name in names}


@pytest.mark.parametrize(
    ("name", "link", "mount_point"),
    [
        ("local", None, None),
        ("iso/kernel", None, None),
        ("remote/kernel", None, "remote"),
        ("remote", None, "remote"),
        ("directory/../remote/kernel", None, "remote"),
        ("../../remote/kernel", None, "remote"),
        ("remotely", None, None),
        ("with blank/kernel", None, "with blank"),
        ("link", "remote/kernel", "remote"),
        ("link/kernel", "/remote", "remote"),
        ("link", "../../with blank/kernel", "with blank"),
        ("link", "link", None),
        ("Remote/kernel", None, None),
    ],
)
@pytest.mark.parametrize("by_link", [False, True])
def test_first_hanging_file_system_on_the_path_is_found(
    mounts: MountTable, tmp_path: Path, name: str, link: str | None, mount_point: str | None, by_link: bool
) -> None:
    root = tmp_path / "root"
    if link is not None:
        (root / "link").symlink_to(link)
    if by_link:
        (tmp_path / "elsewhere").symlink_to("root")
    found = mounts.on_the_way_to(tmp_path / "elsewhere" if by_link else root, name.encode())
    assert found == (None if mount_point is None else str(root / mount_point).encode())


def test_names_are_compared_without_case_if_requested(mounts: MountTable, tmp_path: Path) -> None:
    assert mounts.on_the_way_to(tmp_path / "root", b"Remote/kernel", True) == str(tmp_path / "root/remote").encode()


@pytest.mark.parametrize("root", ["unknown", "unknown/below", "link"])
def test_root_on_a_hanging_file_system_is_found(mounts: MountTable, tmp_path: Path, root: str) -> None:
    (tmp_path / "link").symlink_to("unknown/below")
    assert mounts.on_the_way_to(tmp_path / root) == str(tmp_path / "unknown").encode()
    assert mounts.on_the_way_to(tmp_path / root, b"file") == str(tmp_path / "unknown").encode()


def test_later_mounts_are_seen(tmp_path: Path) -> None:
    table, now = tmp_path / "mountinfo", 0.0
    table.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    mounts = MountTable(table, lambda: now)
    assert mounts.hanging() == frozenset()
    table.write_text("22 1 8:1 / /mnt rw - nfs server:/ rw\n")
    now = 1.0
    assert mounts.hanging() == {b"/mnt"}


def test_without_a_mount_table_no_file_system_counts_as_hanging(tmp_path: Path) -> None:
    assert MountTable(tmp_path / "missing").on_the_way_to(Path("/"), b"file") is None
