"""What is in an archive, by path."""

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
    """A member that can be read where it is."""

    runs: tuple[tuple[int, int], ...]
    """(offset in the archive, bytes) of each piece, in the member's order."""
    modified: float
    """Seconds since the epoch; 0: the archive does not say."""


@frozen
class Packed:
    """A member that has to be unpacked first."""

    size: int
    """Bytes unpacked, according to the archive."""
    modified: float
    open: Callable[[Any], IO[bytes]]
    """(the archive, open for reading and seeking) -> the unpacked bytes."""


Member = Stored | Packed


@define(slots=False)
class Contents:
    """Members and symbolic links; a later one takes the place of an earlier one of the same name.

    :param ignore_case: a name that is not there may differ in upper and lower case.
    """

    ignore_case: bool = False
    members: dict[str, Member] = field(factory=dict)
    links: dict[str, str] = field(factory=dict)
    left_out: dict[str, str] = field(factory=dict)
    """Members that can't be served, and why."""
    volume: str = ""
    """The volume label of an ISO 9660 image; "": there is none."""

    def add(self, name: str, member: Member) -> None:
        """A member, under its name in the archive; one that leads out of the archive is left out."""
        parts = components(name)
        if parts and ".." not in parts:
            self.links.pop("/".join(parts), None)
            self.members["/".join(parts)] = member

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        parts = components(name)
        if parts and ".." not in parts:
            self.members.pop("/".join(parts), None)
            self.links["/".join(parts)] = target

    def find(self, path: str) -> Member | None:
        """The member at *path*, which begins at the top. Links are followed, none leads out; None: there is none."""
        resolved = self._followed(path)
        member = self.members.get(resolved)
        if member is None and self.ignore_case:
            member = self.members.get(self._folded.get(resolved.casefold(), ""))
        return member

    def _followed(self, path: str) -> str:
        if path in self.members or not self.links:
            return lexical(path)
        pending, here, followed = components(path)[::-1], list[str](), 0
        while pending:
            part = pending.pop()
            if part == "..":
                here[-1:] = []
                continue
            here.append(part)
            target = self.links.get("/".join(here))
            if target is None:
                continue
            followed += 1
            if followed > _MAX_SYMLINKS:
                return ""
            here.pop()
            if target.startswith("/"):
                here.clear()
            pending += components(target)[::-1]
        return "/".join(here)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {name.casefold(): name for name in sorted(self.members, reverse=True)}
