"""The pages of docs/howto/images: their commands install an image of their system, and what they say of it is right."""

import re
import shlex
from pathlib import Path

import pytest
from archives import make_iso, make_tar
from bootable import disk_image
from howtos import ROOT, read
from osimages import TREES

from bootfw.api import PluginContext, TransferRequest
from bootfw.backends.imagelibrary.imageentry import split_name
from bootfw.backends.menu import MenuBackend, plugin
from bootfw.images.catalogue import stock
from bootfw.images.familypages import completed, families_of, main
from bootfw.plugins import configure

PAGES = sorted(path.name for path in (ROOT / "docs/howto/images").glob("*.md"))


def commands(page: str) -> list[list[str]]:
    """The commands of a page that begin with ``bootfw``, as words."""
    found = re.findall(r"^# (bootfw .*)$", read(f"images/{page}"), re.MULTILINE)
    return [words for words in map(shlex.split, found) if words[1] in ("images", "install")]


def add_image(directory: Path, page: str) -> str:
    """Put the image of a page into a directory, as its first command does; return its name."""
    bootfw, images, add, source, *options = commands(page)[0]
    assert (bootfw, images, add, options[::2]) in [("bootfw", "images", "add", each) for each in ([], ["--name"])]
    file = source.rpartition("/")[2]
    name, suffix = split_name(file)
    name = options[1] if options else name
    tree = next(tree for tree in TREES if tree.family == families_of(read(f"images/{page}"))[0])
    if suffix == ".img":
        (directory / f"{name}.img").write_bytes(disk_image())
        (directory / "receiver").mkdir()
        for path, data in tree.files.items():
            (directory / "receiver" / path).write_bytes(data)
    elif suffix == ".iso":
        make_iso(directory / f"{name}.iso", dict(tree.files), volume=tree.volume)
    else:
        make_tar(directory / f"{name}{suffix}", dict(tree.files), mode="w:gz")
    return name


@pytest.fixture(scope="module")
def menu(tmp_path_factory: pytest.TempPathFactory) -> MenuBackend:
    """The menu that ``bootfw install`` lets a machine boot from, with the images of all pages."""
    root = tmp_path_factory.mktemp("boot")
    (root / "images").mkdir()
    (root / "wimboot").write_bytes(b"x")
    names = [add_image(root / "images", page) for page in PAGES]
    assert len(set(names)) == len(names)
    menu: MenuBackend = configure(plugin, {"root": str(root), "images": "images"}, PluginContext(None, root))
    return menu


@pytest.mark.parametrize("page", PAGES)
def test_commands_boot_the_image(menu: MenuBackend, tmp_path: Path, page: str) -> None:
    name = add_image(tmp_path, page)
    orders = commands(page)[1:]
    assert orders
    for bootfw, install, mac, image, *options in orders:
        assert (bootfw, install, mac, image) == ("bootfw", "install", "52:54:00:12:34:56", name)
        answers = options[1] if options else ""
        if answers:
            assert options[0] == "--answers"
            assert (ROOT / "examples/answers" / f"{answers}.j2").is_file()
        path = f"install/{image}/{answers}.ipxe" if answers else f"install/{image}.ipxe"
        request = TransferRequest(path, path, ("10.0.0.9", 2070), local="10.0.0.1", http_url="http://10.0.0.1:8069")
        script = menu.open(path, request).read(0, 1 << 16).decode()
        assert f"/images/{image}~" in script
        assert (f"http://10.0.0.1:8069/{answers.rpartition('/')[0]}" in script) or not answers


@pytest.mark.parametrize("page", PAGES)
def test_pages_have_the_facts_of_the_catalogue(page: str) -> None:
    text = read(f"images/{page}")
    assert completed(text) == text, "run: python -m bootfw.images.familypages docs/howto/images/*.md"


def test_every_family_is_on_one_page() -> None:
    families = [name for page in PAGES for name in families_of(read(f"images/{page}"))]
    assert sorted(families) == sorted(family.name for family in stock().families)


def test_every_page_is_linked() -> None:
    assert sorted(set(re.findall(r"\]\(images/([^)]+)\)", read("images.md")))) == PAGES


@pytest.mark.parametrize(
    ("page", "error"),
    [("# Page\n", "there is no line"), ("<!-- images.toml: arch, none -->\n", "images.toml has no family none")],
)
def test_page_that_can_not_be_completed(page: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        completed(page)


def test_page_is_completed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "arch.md"
    path.write_text("# Arch\n\n<!-- images.toml: arch -->\nold\n")
    main([str(path)])
    assert path.read_text() == completed("# Arch\n\n<!-- images.toml: arch -->\n")
    assert "archiso_http_srv" in path.read_text()
