"""Zip archives, by the standard library."""

import datetime
import stat
import zipfile
from struct import Struct
from typing import Any

from bootfw.backends.archive.contents import ArchiveError, Contents, Member, Packed, Stored

_local_header = Struct("<4s22xHH")  # APPNOTE.TXT section 4.3.7: signature, ..., lengths of the name and the extra field
_ENCRYPTED = 1


def is_zip(file: Any) -> bool:
    """It begins with a member."""
    file.seek(0)
    return bool(file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"))


def read_zip(file: Any, size: int) -> Contents:
    """What is in the archive; encrypted members are left out.

    :param file: open for reading and seeking.
    :param size: of the archive; what would lie behind its end is left out.
    :raise ArchiveError: it can't be read.
    """
    contents = Contents()
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.is_dir() or info.flag_bits & _ENCRYPTED:
                    continue
                if stat.S_ISLNK(info.external_attr >> 16):
                    contents.link(info.filename, archive.read(info).decode("utf-8", "surrogateescape"))
                    continue
                member = _member(file, info)
                if isinstance(member, Packed) or all(offset + octets <= size for offset, octets in member.runs):
                    contents.add(info.filename, member)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"no zip archive that can be read: {error}") from error
    return contents


def _member(file: Any, info: zipfile.ZipInfo) -> Member:
    modified = _seconds(info)
    if info.compress_type != zipfile.ZIP_STORED:
        return Packed(info.file_size, modified, lambda file: zipfile.ZipFile(file).open(info))
    if not info.file_size:
        return Stored((), modified)
    file.seek(info.header_offset)
    signature, name, extra = _local_header.unpack(file.read(_local_header.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{info.filename} is not where the directory says")
    return Stored(((info.header_offset + _local_header.size + name + extra, info.file_size),), modified)


def _seconds(info: zipfile.ZipInfo) -> float:
    """Zip keeps local time, of whoever packed it."""
    try:
        return datetime.datetime(*info.date_time, tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return 0.0
