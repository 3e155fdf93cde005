"""Finds the members of ISO 9660 images with pycdlib. Their content is read in place, without it."""

from collections.abc import Iterator
from typing import Any

from bootfw.backends.archive.contents import ArchiveError, Contents, Stored

MISSING = "ISO 9660 images are read by pycdlib, which is not installed: pip install 'bootfw[iso]'"

_BLOCK = 2048
"""Bytes of a logical block."""


def available() -> bool:
    """Return whether pycdlib is installed."""
    try:
        import pycdlib  # noqa: F401
    except ImportError:
        return False
    return True


def is_iso(file: Any) -> bool:
    """Return whether the open *file* has a volume descriptor of ISO 9660 (ECMA-119 section 8)."""
    file.seek(16 * _BLOCK + 1)
    return bool(file.read(5) == b"CD001")


def read_iso(file: Any, size: int) -> Contents:
    """Return the members of an image. Their names are from Rock Ridge, else UDF, else Joliet, else ISO 9660 in lower
    case.

    :param file: open for reading and seeking.
    :param size: of the image in bytes; members beyond its end are left out.
    :raise ArchiveError: it can't be read.
    """
    try:
        import pycdlib
    except ImportError:
        raise ArchiveError(MISSING) from None
    image = pycdlib.PyCdlib()
    try:
        image.open_fp(file)
        try:
            return _contents(image, size)
        finally:
            image.close()
    except Exception as error:  # pycdlib raises struct.error, IndexError and others for damaged images
        raise ArchiveError(f"no ISO 9660 image that can be read: {error}") from error


def _contents(image: Any, size: int) -> Contents:
    if image.has_rock_ridge():
        view, contents = "rr_path", Contents()
    elif image.has_udf():
        view, contents = "udf_path", Contents()
    elif image.has_joliet():
        view, contents = "joliet_path", Contents()
    else:
        view, contents = "iso_path", Contents(ignore_case=True)
    contents.volume = _text(image.pvd.volume_identifier).strip(" \0")
    # Of a file that is cut off by the end of the image, pycdlib returns the length up to this end. So in an incomplete
    # image a file that ends there may be incomplete too, and is left out.
    end = size - 1 if size < image.pvd.space_size * _BLOCK else size
    for name, record in _walk(image, view):
        if view == "rr_path" and record.is_symlink():
            contents.link(name, _text(record.rock_ridge.symlink_path()))
            continue
        runs = tuple(_udf_runs(image, record) if view == "udf_path" else _runs(record))
        if all(offset + length <= end for offset, length in runs):
            contents.add(name, Stored(runs, 0.0))
    return contents


def _walk(image: Any, view: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, pycdlib's record) of all files and links.

    :param view: the parameter of pycdlib's functions that says which of the image's directory trees is read.
    """
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            records = list(image.list_children(**{view: f"/{directory}"}))
        except UnicodeError:  # pycdlib looks paths up by UTF-8 only
            continue
        for record in records:
            if record is None or record.is_dot() or record.is_dotdot():
                continue
            path = f"{directory}/{_name(record, view)}" if directory else _name(record, view)
            if record.is_dir():
                pending.append(path)
            else:
                yield path, record


def _name(record: Any, view: str) -> str:
    if view == "rr_path":
        return _text(record.rock_ridge.name())
    name: bytes = record.file_identifier()
    if view == "joliet_path":
        return name.decode("utf-16-be", "replace").partition(";")[0]
    if view == "udf_path":
        return name.decode(record.file_ident.encoding, "replace")
    # ECMA-119 section 7.5.1: NAME.EXTENSION;VERSION, the dot stands also without an extension.
    return _text(name) if record.is_dir() else _text(name).partition(";")[0].rstrip(".").lower()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _runs(record: Any) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of each record of a file: one of 4 GB or more has several (ECMA-119 section 6.5.1)."""
    while record is not None:
        if record.get_data_length():
            yield record.extent_location() * _BLOCK, record.get_data_length()
        record = record.data_continuation


def _udf_runs(image: Any, entry: Any) -> Iterator[tuple[int, int]]:
    """Yield (offset, bytes) of each allocation descriptor: its length has 30 bits (ECMA-167 section 4/14.14.1.1)."""
    start = image.udf_main_descs.partitions[0].part_start_location
    remaining = entry.get_data_length()
    for piece in entry.alloc_descs:
        length = min(piece.extent_length & 0x3FFFFFFF, remaining)
        if length:
            yield (start + piece.log_block_num) * _BLOCK + piece.offset, length
        remaining -= length
