"""The families of images that are known: ``images.toml``, and the operator's own."""

import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrs import frozen

from bootfw.config.tables import fields_of, read_table
from bootfw.errors import ConfigError, ErrorCollector
from bootfw.images.family import Family, Recognition
from bootfw.images.listing import Listing


@frozen
class Catalogue:
    """The families, in the order in which they are tried."""

    families: tuple[Family, ...]

    def recognize(self, listing: Listing) -> Recognition | None:
        """Return the family of an image and how it can be booted; None: it belongs to no family."""
        found = (family.recognize(listing) for family in self.families)
        return next((recognition for recognition in found if recognition is not None), None)

    def with_own(self, own: Iterable[Family]) -> "Catalogue":
        """Return the catalogue with families of the operator, which replace those of the same name."""
        first = tuple(own)
        names = {family.name for family in first}
        return Catalogue((*first, *(family for family in self.families if family.name not in names)))


@cache
def stock() -> Catalogue:
    """Return the built-in families."""
    return Catalogue(tuple(_read(files("bootfw.images").joinpath("images.toml").read_text("utf-8"))))


def read_families(path: Path) -> tuple[Family, ...]:
    """Return the families in a file of the operator.

    :raise ConfigError: everything that is wrong in it.
    :raise OSError: it can't be read.
    """
    try:
        return tuple(_read(path.read_text("utf-8-sig")))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(text: str) -> Iterator[Family]:
    document = tomllib.loads(text)
    collector = ErrorCollector()
    for key in document.keys() - {"family"}:
        collector.errors.append(ConfigError("unknown key; known: family", (key,)))
    tables: Any = document.get("family", [])
    if not isinstance(tables, list):
        raise ConfigError("must be a list of tables, [[family]]", ("family",))
    families = []
    for at, table in enumerate(tables):
        with collector.under("family", at):
            families.append(read_table(table, fields_of(Family), Family, Family))
    collector.finish()
    return iter(families)
