"""Archives of each kind with given files in them."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pycdlib
import zstandard

Files = Mapping[str, bytes]


def make_tar(
    path: Path, files: Files, links: Mapping[str, str] = {}, mode: Literal["w", "w:gz", "w:bz2", "w:xz"] = "w"
) -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mtime = len(data), 1_700_000_000
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


def make_zstd_tar(path: Path, files: Files) -> None:
    plain = path.with_name(f"{path.name}.plain")
    make_tar(plain, files)
    path.write_bytes(zstandard.ZstdCompressor().compress(plain.read_bytes()))


def make_zip(path: Path, files: Files, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 2, 3, 4, 5, 6)), data, compression)


def make_iso(
    path: Path, files: Files, links: Mapping[str, str] = {}, view: str = "rock ridge", volume: str = ""
) -> None:
    """Make an ISO 9660 image.

    :param view: the directory tree that has the names as they are: "rock ridge", "joliet", "udf" or "plain".
    :param volume: the label.
    """
    image = pycdlib.PyCdlib()
    image.new(
        interchange_level=3,
        vol_ident=volume,
        rock_ridge="1.09" if view == "rock ridge" else None,
        joliet=3 if view == "joliet" else None,
        udf="2.60" if view == "udf" else None,
    )
    iso_paths: dict[str, str] = {"": ""}

    def names(name: str, iso_path: str, base: str) -> dict[str, Any]:
        arguments = {"iso_path": iso_path}
        if view == "rock ridge":
            arguments["rr_name"] = base
        elif view != "plain":
            arguments[f"{view}_path"] = f"/{name}"
        return arguments

    def directory(name: str) -> str:
        if name not in iso_paths:
            parent, _, base = name.rpartition("/")
            iso_name = base.upper() if view == "plain" else f"D{len(iso_paths)}"
            iso_paths[name] = f"{directory(parent)}/{iso_name}"
            image.add_directory(**names(name, iso_paths[name], base))
        return iso_paths[name]

    for number, (name, data) in enumerate(files.items()):
        parent, _, base = name.rpartition("/")
        iso_name = f"{base.upper()}{'' if '.' in base else '.'};1" if view == "plain" else f"F{number}.;1"
        image.add_fp(io.BytesIO(data), len(data), **names(name, f"{directory(parent)}/{iso_name}", base))
    for number, (name, target) in enumerate(links.items()):
        parent, _, base = name.rpartition("/")
        image.add_symlink(f"{directory(parent)}/L{number}.;1", base, target)
    image.write(str(path))
    image.close()


MAKERS: Mapping[str, Callable[[Path, Files], None]] = {
    "rock-ridge.iso": make_iso,
    "joliet.iso": lambda path, files: make_iso(path, files, view="joliet"),
    "udf.iso": lambda path, files: make_iso(path, files, view="udf"),
    "plain.iso": lambda path, files: make_iso(path, files, view="plain"),
    "plain.tar": make_tar,
    "a.tar.gz": lambda path, files: make_tar(path, files, mode="w:gz"),
    "a.tar.xz": lambda path, files: make_tar(path, files, mode="w:xz"),
    "a.tar.bz2": lambda path, files: make_tar(path, files, mode="w:bz2"),
    "a.tar.zst": make_zstd_tar,
    "stored.zip": make_zip,
    "deflated.zip": lambda path, files: make_zip(path, files, zipfile.ZIP_DEFLATED),
    "lzma.zip": lambda path, files: make_zip(path, files, zipfile.ZIP_LZMA),
}
"""Name of an archive -> the function that makes it."""
