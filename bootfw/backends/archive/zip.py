"""Finds the members of zip archives with zipfile."""

import datetime
import stat
import zipfile
import zlib
from struct import Struct
from struct import error as StructError
from typing import Any

from bootfw.backends.archive.contents import ArchiveError, Contents, Member, Packed, Stored

_local_header = Struct("<4s22xHH")  # APPNOTE.TXT section 4.3.7: signature, ..., lengths of the name and the extra field
_ENCRYPTED = 1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def is_zip(file: Any) -> bool:
    """Return whether the open *file* begins with a member, or with the end of an empty archive."""
    file.seek(0)
    return bool(file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"))


def read_zip(file: Any, size: int) -> Contents:
    """Return the members of an archive. Those that are encrypted, or compressed by an unknown method, are left out.

    :param file: open for reading and seeking.
    :param size: of the archive in bytes; members beyond its end are left out.
    :raise ArchiveError: it can't be read.
    """
    contents = Contents()
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if not info.filename or info.is_dir():
                    continue
                reason = _unreadable(info)
                if not reason:
                    try:
                        reason = _add(contents, archive, file, info, size)
                    except (zipfile.BadZipFile, StructError, ValueError, zlib.error) as error:
                        reason = f"it is damaged: {error}"
                if reason:
                    contents.left_out[info.filename] = reason
    except Exception as error:  # zipfile raises struct.error, ValueError and others for damaged archives
        raise ArchiveError(f"no zip archive that can be read: {error}") from error
    return contents


def _unreadable(info: zipfile.ZipInfo) -> str:
    """Return why zipfile can't read a member; "": it can."""
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if info.compress_type not in _COMPRESSIONS:
        return f"it is compressed by method {info.compress_type}, which is not known here: store it, or use deflate"
    return ""


def _add(contents: Contents, archive: zipfile.ZipFile, file: Any, info: zipfile.ZipInfo, size: int) -> str:
    """Add a member. Return why it can't be served; "": it can."""
    if stat.S_ISLNK(info.external_attr >> 16):
        contents.link(info.filename, archive.read(info).decode("utf-8", "surrogateescape"))
        return ""
    member = _member(file, info)
    if isinstance(member, Stored) and any(offset + length > size for offset, length in member.runs):
        return "it lies behind the end of the archive"
    contents.add(info.filename, member)
    return ""


def _member(file: Any, info: zipfile.ZipInfo) -> Member:
    modified = _seconds(info)
    if info.compress_type != zipfile.ZIP_STORED:
        return Packed(info.file_size, modified, lambda file: zipfile.ZipFile(file).open(info))
    if not info.file_size:
        return Stored((), modified)
    # The content begins after the local header, whose extra field may differ from that in the central directory.
    file.seek(info.header_offset)
    signature, name, extra = _local_header.unpack(file.read(_local_header.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{info.filename} is not where the directory says")
    return Stored(((info.header_offset + _local_header.size + name + extra, info.file_size),), modified)


def _seconds(info: zipfile.ZipInfo) -> float:
    """Return the modification time. Zip has the local time of the machine that packed it, without its zone; taken as
    UTC it is the same on all servers."""
    try:
        return datetime.datetime(*info.date_time, tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return 0.0
