"""The members of an archive by their paths, and its symbolic links."""

from collections.abc import Callable
from functools import cached_property
from typing import IO, Any

from attrs import define, field, frozen

from bootfw.backends.paths import components, lexical

_MAX_SYMLINKS = 40  # as many as the kernel follows, path_resolution(7)


class ArchiveError(Exception):
    """An archive that can't be read; the message is for the operator."""


@frozen
class Stored:
    """A member that can be read in place."""

    runs: tuple[tuple[int, int], ...]
    """(offset in the archive, bytes) of each piece of it, in order."""
    modified: float
    """Seconds since the epoch; 0: not known."""


@frozen
class Packed:
    """A member that has to be unpacked first."""

    size: int
    """Bytes unpacked, according to the archive, which may be wrong."""
    modified: float
    """As of Stored."""
    open: Callable[[Any], IO[bytes]]
    """(file object of the archive, which can seek) -> file object of the unpacked bytes."""


Member = Stored | Packed


@define(slots=False)
class Contents:
    """Members and symbolic links. Of several with the same name the last one counts, as with tar(1).

    :param ignore_case: if a name does not exist, find one that differs only in upper and lower case.
    """

    ignore_case: bool = False
    members: dict[str, Member] = field(factory=dict)
    links: dict[str, str] = field(factory=dict)
    left_out: dict[str, str] = field(factory=dict)
    """Name -> why it can't be served."""
    volume: str = ""
    """The volume label of an ISO 9660 image; "": there is none."""

    def add(self, name: str, member: Member) -> None:
        """Add a member. A name with ".." is ignored: it would be outside of the directory of the archive."""
        parts = components(name)
        if parts and ".." not in parts:
            self.links.pop("/".join(parts), None)
            self.members["/".join(parts)] = member

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link; names as of add()."""
        parts = components(name)
        if parts and ".." not in parts:
            self.members.pop("/".join(parts), None)
            self.links["/".join(parts)] = target

    def find(self, path: str) -> Member | None:
        """Return the member at *path*; None: there is none. Links are followed, as if the archive were the root."""
        resolved = self._followed(path)
        member = self.members.get(resolved)
        if member is None and self.ignore_case:
            member = self.members.get(self._folded.get(resolved.casefold(), ""))
        return member

    def _followed(self, path: str) -> str:
        """Return *path* with its symbolic links resolved; "": they lead in a circle."""
        if path in self.members or not self.links:
            return lexical(path)
        pending, directory, followed = components(path)[::-1], list[str](), 0
        while pending:
            part = pending.pop()
            if part == "..":
                directory[-1:] = []  # at the root ".." has no effect
                continue
            directory.append(part)
            target = self.links.get("/".join(directory))
            if target is None:
                continue
            followed += 1
            if followed > _MAX_SYMLINKS:
                return ""
            directory.pop()
            if target.startswith("/"):
                directory.clear()
            pending += components(target)[::-1]
        return "/".join(directory)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {name.casefold(): name for name in sorted(self.members, reverse=True)}
