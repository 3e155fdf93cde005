"""Recognition of clients by the options of their TFTP requests."""

from collections.abc import Iterable

from attrs import frozen

OTHERS = "..."
"""As the first word of a set: further options are allowed."""


@frozen
class RequestedOptions:
    """A set of options in order: lower-case names, each with its required value, if any."""

    options: tuple[tuple[str, str | None], ...]
    others: bool
    """Further options are allowed, in any order."""

    def fits(self, options: tuple[tuple[str, str], ...], *, in_order: bool) -> bool:
        """Whether the request has these options.

        :param options: as the client sent them.
        """
        if self.others or not in_order:
            there = {name.lower(): value for name, value in options}
            return (self.others or len(options) == len(self.options)) and all(
                name in there and value in (None, there[name]) for name, value in self.options
            )
        return len(options) == len(self.options) and all(
            name.lower() == wanted and value in (None, given)
            for (name, given), (wanted, value) in zip(options, self.options, strict=True)
        )


@frozen
class Fingerprint:
    """The sets of options that one kind of client sends."""

    sets: tuple[RequestedOptions, ...]

    @classmethod
    def read(cls, texts: Iterable[str]) -> "Fingerprint":
        """``["tsize blksize=1468 windowsize=4", "... msftwindow"]``.

        :raise ValueError: an option has no name.
        """
        return cls(tuple(map(_read_one, texts)))

    def fits(self, options: tuple[tuple[str, str], ...], *, in_order: bool) -> bool:
        """Whether *options* are one of the sets.

        :param in_order: the order has to be the same.
        """
        return any(each.fits(options, in_order=in_order) for each in self.sets)

    def lists(self, options: tuple[tuple[str, str], ...]) -> bool:
        """Whether one of the sets is *options* in this very order."""
        return any(not each.others and each.fits(options, in_order=True) for each in self.sets)

    @property
    def texts(self) -> list[str]:
        """What read() takes."""
        return list(map(_shown, self.sets))


def _read_one(text: str) -> RequestedOptions:
    words = text.split()
    others = words[:1] == [OTHERS]
    options = []
    for word in words[1:] if others else words:
        name, equals, value = word.partition("=")
        if not name:
            raise ValueError(f'"{word}" has no name; an option is written "blksize" or "blksize=1468"')
        options.append((name.lower(), value if equals else None))
    return RequestedOptions(tuple(options), others)


def _shown(requested: RequestedOptions) -> str:
    words = [name if value is None else f"{name}={value}" for name, value in requested.options]
    return " ".join([OTHERS, *words] if requested.others else words)
