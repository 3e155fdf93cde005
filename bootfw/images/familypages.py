"""Generates the tables in the pages of ``docs/howto/images`` from ``images.toml``.

``python -m bootfw.images.familypages docs/howto/images/*.md`` replaces, in each page, everything after the line
``<!-- images.toml: NAME, ... -->``, which names the families of the page.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bootfw.config.units import size_text
from bootfw.images.catalogue import stock
from bootfw.images.family import Family
from bootfw.images.recipe import IMAGE, LOADERS, Recipe

MARK = re.compile(r"^<!-- images\.toml: (?P<names>[a-z0-9.,\- ]+) -->\n", re.MULTILINE)

_LOADERS = {"ipxe": "iPXE", "grub": "GRUB", "pxelinux": "PXELINUX"}
_KINDS = {
    "mboot": "mboot, the boot program of ESXi",
    "wimboot": "wimboot",
    "disk": "the image as a disk or CD",
    "receiver": "the system that writes a disk image, by `bootfw install` of that image",
}
_FIRMWARE = {"bios": "BIOS", "efi": "UEFI"}


def families_of(page: str) -> tuple[str, ...]:
    """Return the names of the families of a page; none: it has no mark."""
    found = MARK.search(page)
    return tuple(name.strip() for name in found["names"].split(",")) if found else ()


def completed(page: str) -> str:
    """Return a page with the part below its mark generated again.

    :raise ValueError: it has no mark, or names an unknown family.
    """
    found = MARK.search(page)
    if found is None:
        raise ValueError("there is no line <!-- images.toml: NAME, ... -->")
    families = {family.name: family for family in stock().families}
    parts = []
    for name in families_of(page):
        if name not in families:
            raise ValueError(f"images.toml has no family {name}")
        parts.append("\n".join(_of_family(families[name])))
    return page[: found.end()] + "\n" + "\n".join(parts)


def _of_family(family: Family) -> Iterator[str]:
    yield f"## `{family.name}`"
    yield ""
    yield "| | |"
    yield "| --- | --- |"
    yield f"| shown as | {_codes([family.title])} |"
    if family.files:
        yield f"| has the files | {_codes(family.files)} |"
    if family.volume:
        yield f"| its volume label has | {_codes(pattern.pattern for pattern in family.volume)} |"
    for path, pattern in family.text.items():
        yield f"| `{path}` has | {_codes([pattern.pattern])} |"
    if family.unbootable:
        yield f"| not over the network | {_text(family.unbootable)} |"
    for number, recipe in enumerate(family.recipes, 1):
        if len(family.recipes) > 1:
            yield f"| **recipe {number}** | |"
        yield from _of_recipe(recipe)
    yield f"| source | {_text(family.source)} |"
    yield ""


def _of_recipe(recipe: Recipe) -> Iterator[str]:
    if recipe.kind in _KINDS:
        yield f"| booted as | {_KINDS[recipe.kind]} |"
    if recipe.kernel:
        yield f"| kernel | `{recipe.kernel}` |"
    if recipe.initrd:
        yield f"| initial RAM disk | {_codes(name.removesuffix('?') for name in recipe.initrd)} |"
    files = {name: "the image itself" if path == IMAGE else f"`{path}`" for name, path in recipe.named.items()}
    for name, content in files.items():
        yield f"| as the file `{name}` | {content} |"
    if recipe.arguments:
        yield f"| arguments | {_codes([recipe.arguments])} |"
    if recipe.bootif:
        yield "| argument of the boot program | `BOOTIF`: the network card that the machine has booted from |"
    if recipe.answers:
        yield f"| with answers also | {_codes([recipe.answers])} |"
    if recipe.beside:
        yield f"| with answers also the files beside them | {_codes(recipe.beside)} |"
    for name, description in recipe.required.items():
        yield f"| needs `{name}` | {_text(description)} |"
    if recipe.firmware != ("bios", "efi"):
        yield f"| firmware | {', '.join(_FIRMWARE[name] for name in recipe.firmware)} |"
    if recipe.loaders != LOADERS:
        yield f"| boot programs | {', '.join(_LOADERS[name] for name in recipe.loaders)} |"
    loaded = ["the image" if path == IMAGE else f"`{path}`" for path in recipe.loaded]
    more = f", and as much as {', '.join(loaded)} has" if loaded else ""
    yield f"| memory | {size_text(recipe.memory)}{more} |"


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(f"`{_text(text)}`" for text in texts)


def _text(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(paths: Iterable[str]) -> None:
    """Complete the pages at *paths*."""
    for path in map(Path, paths):
        path.write_text(completed(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
