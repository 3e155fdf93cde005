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
    """*volume*: its label. *view* is where the names stand as they are: "rock ridge", "joliet", "udf" or "plain"."""
    image = pycdlib.PyCdlib()
    image.new(
        interchange_level=3,
        vol_ident=volume,
        rock_ridge="1.09" if view == "rock ridge" else None,
        joliet=3 if view == "joliet" else None,
        udf="2.60" if view == "udf" else None,
    )
    plain: dict[str, str] = {"": ""}

    def names(name: str, plain_name: str, last: str) -> dict[str, Any]:
        named = {"iso_path": plain_name}
        if view == "rock ridge":
            named["rr_name"] = last
        elif view != "plain":
            named[f"{view}_path"] = f"/{name}"
        return named

    def directory(name: str) -> str:
        if name not in plain:
            above, _, last = name.rpartition("/")
            spelled = last.upper() if view == "plain" else f"D{len(plain)}"
            plain[name] = f"{directory(above)}/{spelled}"
            image.add_directory(**names(name, plain[name], last))
        return plain[name]

    for number, (name, data) in enumerate(files.items()):
        above, _, last = name.rpartition("/")
        spelled = f"{last.upper()}{'' if '.' in last else '.'};1" if view == "plain" else f"F{number}.;1"
        image.add_fp(io.BytesIO(data), len(data), **names(name, f"{directory(above)}/{spelled}", last))
    for number, (name, target) in enumerate(links.items()):
        above, _, last = name.rpartition("/")
        image.add_symlink(f"{directory(above)}/L{number}.;1", last, target)
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
"""Name of an archive -> what makes it."""
