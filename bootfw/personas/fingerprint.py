"""Fingerprints: recognizes clients by the options of their TFTP requests."""

from collections.abc import Iterable

from attrs import frozen

OTHERS = "..."
"""First word of a set of options in which further options are allowed."""


@frozen
class RequestedOptions:
    """The options of one kind of request, in order."""

    options: tuple[tuple[str, str | None], ...]
    """(lower-case name, required value, or None: any value) of each."""
    others: bool
    """Further options are allowed, in any order."""

    def fits(self, options: tuple[tuple[str, str], ...], *, in_order: bool) -> bool:
        """Return whether a request has these options.

        :param options: as the client sent them.
        :param in_order: the order has to be the same.
        """
        if self.others or not in_order:
            sent = {name.lower(): value for name, value in options}
            return (self.others or len(options) == len(self.options)) and all(
                name in sent and value in (None, sent[name]) for name, value in self.options
            )
        return len(options) == len(self.options) and all(
            sent_name.lower() == name and value in (None, sent_value)
            for (sent_name, sent_value), (name, value) in zip(options, self.options, strict=True)
        )


@frozen
class Fingerprint:
    """The sets of options that one kind of client sends in its requests."""

    sets: tuple[RequestedOptions, ...]

    @classmethod
    def read(cls, texts: Iterable[str]) -> "Fingerprint":
        """Parse texts such as ``["tsize blksize=1468 windowsize=4", "... msftwindow"]``.

        :raise ValueError: an option has no name.
        """
        return cls(tuple(map(_read_one, texts)))

    def fits(self, options: tuple[tuple[str, str], ...], *, in_order: bool) -> bool:
        """Return whether *options* are one of the sets.

        :param in_order: the order has to be the same.
        """
        return any(each.fits(options, in_order=in_order) for each in self.sets)

    def lists(self, options: tuple[tuple[str, str], ...]) -> bool:
        """Return whether one of the sets is exactly *options*, in the same order."""
        return any(not each.others and each.fits(options, in_order=True) for each in self.sets)

    @property
    def texts(self) -> list[str]:
        """The sets as texts, as read() takes them."""
        return list(map(_text, self.sets))


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


def _text(requested: RequestedOptions) -> str:
    words = [name if value is None else f"{name}={value}" for name, value in requested.options]
    return " ".join([OTHERS, *words] if requested.others else words)
