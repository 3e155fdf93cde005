"""A family of images: how they are recognized, and their recipes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import field, frozen

from bootfw.images.listing import Listing
from bootfw.images.recipe import Plan, Recipe

_UNSAFE = re.compile(r"[^A-Za-z0-9 .:,_/+=@()~-]")
"""Characters that are removed from texts of an image, which become arguments of kernels and lines of menus."""

_LONGEST = 256


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _recipes(values: Iterable[Recipe]) -> tuple[Recipe, ...]:
    return tuple(values)


def _pattern(text: "str | re.Pattern[str]") -> "re.Pattern[str]":
    try:
        return re.compile(text, re.MULTILINE) if isinstance(text, str) else text
    except re.error as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from error


def _patterns(values: "Iterable[str | re.Pattern[str]]") -> tuple["re.Pattern[str]", ...]:
    return tuple(map(_pattern, values))


def _pattern_of(values: "Mapping[str, str | re.Pattern[str]]") -> dict[str, "re.Pattern[str]"]:
    return {path: _pattern(text) for path, text in values.items()}


def _check_name(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value):
        raise ValueError(f'must be a word of lowercase letters, digits and dashes, not "{value}"')


def _check_source(instance: Any, attribute: Any, value: str) -> None:
    if not value.strip():
        raise ValueError("must name where this is documented")


@frozen(kw_only=True)
class Family:
    """``[[family]]``: images of one system, such as the live images of Debian.

    An image belongs to the first family whose conditions (`files`, `without`, `volume`, `text`) all hold.
    """

    name: str = field(validator=_check_name)
    """A family with the name of a built-in one replaces it; others are tried before the built-in ones."""
    title: str
    """Shown in menus. `{version}` and other names of groups in the patterns are filled in; a group that no pattern has
    matched is left out."""
    source: str = field(validator=_check_source)
    """Where the recipes are documented."""
    files: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """The image has all of these files; `*` stands for anything but `/`."""
    without: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """The image has none of these files."""
    volume: tuple["re.Pattern[str]", ...] = field(default=(), converter=_patterns, metadata={"toml": list[str]})
    """One of these regular expressions is found in the volume label."""
    text: Mapping[str, "re.Pattern[str]"] = field(
        factory=dict, converter=_pattern_of, metadata={"toml": dict[str, str]}
    )
    """File -> a regular expression that is found in it. Its named groups are placeholders."""
    details: Mapping[str, "re.Pattern[str]"] = field(
        factory=dict, converter=_pattern_of, metadata={"toml": dict[str, str]}
    )
    """Like `text`, but not a condition, such as where the version may be found. The file `volume:` is the volume
    label."""
    recipes: tuple[Recipe, ...] = field(
        default=(),
        converter=_recipes,
        metadata={"key": ("recipe",), "toml": list[dict[str, Any]], "tables": Recipe},
    )
    """See below. Every recipe applies whose files the image has; usually there is one for each processor."""
    unbootable: str = ""
    """Why images of the family can't be booted over the network, and what to use instead."""

    def recognize(self, listing: Listing) -> "Recognition | None":
        """Return how an image of this family can be booted; None: it does not belong to the family."""
        if any(listing.find(name) is None for name in self.files) or any(map(listing.find, self.without)):
            return None
        groups: dict[str, str] = {}
        if self.volume:
            labels = [match for match in (one.search(listing.volume) for one in self.volume) if match]
            if not labels:
                return None
            groups |= _groups(labels[0])
        for name, pattern in self.text.items():
            path = listing.find(name)
            match = pattern.search(listing.text(path)) if path is not None else None
            if match is None:
                return None
            groups |= _groups(match)
        for name, pattern in self.details.items():
            path = listing.find(name)
            text = listing.volume if name == "volume:" else listing.text(path) if path is not None else ""
            if match := pattern.search(text):
                groups = {**_groups(match), **groups}  # details do not override what the conditions have found
        plans, lacking = [], []
        for recipe in self.recipes:
            planned = recipe.plan(listing, groups)
            if isinstance(planned, Plan):
                plans.append(planned)
            else:
                lacking.append(planned)
        title = re.sub(r"\s*\{\w+\}", "", re.sub(r"\{(\w+)\}", lambda name: groups.get(name[1], name[0]), self.title))
        reason = self.unbootable
        if not plans and lacking:
            reason = reason or f"{', '.join(dict.fromkeys(lacking))} is missing in it"
        return Recognition(self, title, groups.get("version", ""), tuple(plans), reason)


@frozen
class Recognition:
    """The family of an image, and how the image can be booted."""

    family: Family
    title: str
    version: str
    """"": not known."""
    plans: tuple[Plan, ...]
    """The ways to boot it."""
    reason: str = ""
    """Why it can't be booted over the network; "": it can."""


def _groups(match: "re.Match[str]") -> dict[str, str]:
    found = {name: value for name, value in match.groupdict().items() if value}
    texts = {name: _UNSAFE.sub("", value[:_LONGEST]).strip() for name, value in found.items()}
    if "version" in texts:
        texts["version"] = texts["version"].replace("_", ".")  # volume labels have no dots: 14_0_RELEASE
    return texts
