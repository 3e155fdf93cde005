"""Finds the members of tar archives with tarfile. A compressed archive is unpacked as a whole first, see packing.py."""

import tarfile
from functools import partial
from typing import IO, Any

from bootfw.backends.archive.contents import ArchiveError, Contents, Packed, Stored


def is_tar(file: Any) -> bool:
    """Return whether the open *file* begins with the header of a member, or with the end of an empty archive."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except Exception:  # as in read_tar()
        return False


def read_tar(file: Any, size: int) -> Contents:
    """Return the members of an archive.

    :param file: open for reading and seeking.
    :param size: of the archive in bytes; members beyond its end are left out, and so are hard links without a target.
    :raise ArchiveError: it can't be read.
    """
    contents = Contents()
    unresolved: list[tuple[str, str]] = []
    """(name, target) of hard links that come before their target."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                if member.issym():
                    contents.link(member.name, member.linkname)
                elif member.islnk():
                    original = contents.find(member.linkname)
                    if original is None:
                        unresolved.append((member.name, member.linkname))
                    else:
                        contents.add(member.name, original)
                elif member.isreg():
                    if member.offset_data + _stored_size(member) > size:
                        contents.left_out[member.name] = "it lies behind the end of the archive"
                    elif member.issparse():
                        contents.add(member.name, Packed(member.size, float(member.mtime), partial(_sparse, member)))
                    else:
                        runs = ((member.offset_data, member.size),) if member.size else ()
                        contents.add(member.name, Stored(runs, float(member.mtime)))
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps all of them: too much memory
    except Exception as error:  # tarfile raises ValueError and others for damaged archives
        raise ArchiveError(f"no tar archive that can be read: {error}") from error
    for name, target in unresolved:
        original = contents.find(target)
        if original is None:
            contents.left_out[name] = f"it is a hard link to {target}, which is not in the archive"
        else:
            contents.add(name, original)
    return contents


def _stored_size(member: tarfile.TarInfo) -> int:
    """Return how many bytes of content the member has in the archive: holes of a sparse file take none."""
    extents: Any = member.sparse  # (offset in the file, bytes) of what is stored, whatever typeshed says
    return sum(size for _, size in extents) if member.issparse() else member.size


def _sparse(member: tarfile.TarInfo, file: Any) -> IO[bytes]:
    """Return a file object of a sparse member, with zeros in its holes."""
    file.seek(0)
    opened = tarfile.open(fileobj=file, mode="r:").extractfile(member)  # noqa: SIM115  the file is the caller's
    assert opened is not None
    return opened
