"""Which images are recognized as what, and how each is booted."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osimages import ESXI_BOOT_CFG, PC, TREES, Tree, listing

from bootfw.errors import ConfigError
from bootfw.images.bootcfg import for_network, is_boot_cfg
from bootfw.images.catalogue import read_families, stock
from bootfw.images.listing import Listing
from bootfw.images.recipe import IMAGE, Plan

URLS = ("http://s/content", "http://s/image.iso", "http://s/content")
"""Where the files of an image and the image itself are."""


def plans(tree: Tree) -> tuple[Plan, ...]:
    found = stock().recognize(tree.listing)
    assert found is not None
    return found.plans


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.title)
def test_image_is_recognized(tree: Tree) -> None:
    found = stock().recognize(tree.listing)
    assert found is not None
    assert (found.family.name, found.title) == (tree.family, tree.title)


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.title)
def test_arguments_are_those_of_the_documentation(tree: Tree) -> None:
    found = plans(tree)
    assert [plan.arguments(*URLS) for plan in found] == list(tree.arguments)
    if tree.answers:
        assert found[0].arguments(*URLS, "http://s/answers").removeprefix(f"{tree.arguments[0]} ") == tree.answers


@pytest.mark.parametrize("tree", [tree for tree in TREES if tree.arguments], ids=lambda tree: tree.title)
def test_plans_name_files_of_the_image_and_no_placeholder_is_left(tree: Tree) -> None:
    for plan in plans(tree):
        names = [*plan.initrds, *plan.named.values(), *([plan.kernel] if plan.kernel else [])]
        assert [name for name in names if name != IMAGE and name not in tree.files] == []
        assert "{" not in plan.arguments(*URLS, "http://s/answers")
        assert plan.needs_http is tree.needs_http


@pytest.mark.parametrize("tree", [tree for tree in TREES if tree.kernels], ids=lambda tree: tree.title)
def test_kernels(tree: Tree) -> None:
    assert [plan.kernel for plan in plans(tree)] == list(tree.kernels)


@pytest.mark.parametrize("tree", [tree for tree in TREES if not tree.arguments], ids=lambda tree: tree.title)
def test_an_image_that_needs_its_cd_says_what_to_take_instead(tree: Tree) -> None:
    found = stock().recognize(tree.listing)
    assert found is not None
    assert found.plans == ()
    assert ";" in found.reason


def test_every_family_has_a_tree() -> None:
    assert {family.name for family in stock().families} == {tree.family for tree in TREES}


def test_memory_is_that_of_the_recipe_and_of_what_is_loaded() -> None:
    (server,) = plans(next(tree for tree in TREES if tree.family == "ubuntu-server"))
    assert server.memory == (1 << 30) + 700_000_000 + len(PC) + 1


def test_a_directory_has_no_image_as_one_file() -> None:
    tree = next(tree for tree in TREES if tree.family == "ubuntu-server")
    found = stock().recognize(listing(tree.files))
    assert found is not None
    assert (found.plans, found.reason) == ((), "the image as one file is missing in it")


def test_a_file_that_a_recipe_needs_is_named_when_it_is_missing() -> None:
    tree = next(tree for tree in TREES if tree.family == "suse")
    found = stock().recognize(listing({"media.1/products": tree.files["media.1/products"]}))
    assert found is not None
    assert found.reason == "boot/x86_64/loader/linux, boot/aarch64/linux is missing in it"


def test_microcode_comes_before_the_initial_ram_disk_and_may_be_missing() -> None:
    (arch,) = plans(next(tree for tree in TREES if tree.family == "arch"))
    assert arch.initrds == ("arch/boot/amd-ucode.img", "arch/boot/x86_64/initramfs-linux.img")


def test_unknown_image_is_not_recognized() -> None:
    assert stock().recognize(listing({"README": b"", "boot/vmlinuz": PC}, "DATA")) is None


def test_texts_of_an_image_can_not_add_arguments_or_lines() -> None:
    image_files = {"bzImage": PC, "initrd": b"x", "netboot.ipxe": b"kernel bzImage init=/x;`reboot`\"'\\|& quiet\n"}
    found = stock().recognize(listing(image_files))
    assert found is not None
    assert found.plans[0].arguments(*URLS) == "init=/xreboot quiet"


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=64), max_size=4), st.text(max_size=12))
def test_any_listing_is_taken(tree: dict[str, bytes], volume: str) -> None:
    stock().recognize(listing({**TREES[0].files, **tree, "version.info": volume.encode()}, volume))


def test_a_text_that_cannot_be_read_counts_as_empty() -> None:
    def fail(path: str, most: int) -> bytes:
        raise OSError(5, "Input/output error")

    assert stock().recognize(Listing(dict.fromkeys(TREES[0].files, 1), fail)) is not None


# Names in a listing


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("live/vmlinuz", "live/vmlinuz"),
        ("LIVE/VMLINUZ", "live/vmlinuz"),
        ("live/vmlinuz-*", "live/vmlinuz-6.1"),
        ("*/vmlinuz", "live/vmlinuz"),
        ("*/deep", None),
        ("live/vmlinuz-[6]*", None),
        ("none", None),
    ],
)
def test_names_and_patterns(pattern: str, found: str | None) -> None:
    names = ("live/vmlinuz", "live/vmlinuz-5.10", "live/vmlinuz-6.1", "a/b/deep")
    assert listing(dict.fromkeys(names, b"")).find(pattern) == found


# The data


def test_every_family_has_a_source() -> None:
    for family in stock().families:
        assert "http" in family.source or "(7)" in family.source, family.name


def test_names_are_unique() -> None:
    names = [family.name for family in stock().families]
    assert len(names) == len(set(names))
    document = tomllib.loads(files("bootfw.images").joinpath("images.toml").read_text("utf-8"))
    assert len(document["family"]) == len(names)


OPERATOR_FAMILY = """
[[family]]
name = "ours"
title = "Ours {version}"
source = "https://example.org"
files = ["ours.txt"]
details = { "ours.txt" = '(?P<version>\\d+)' }
[[family.recipe]]
kernel = "vmlinuz"
arguments = "root={content}"
"""


def test_families_of_the_operator_come_first_and_replace(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OPERATOR_FAMILY + OPERATOR_FAMILY.replace('"ours"', '"debian-netboot"'))
    catalogue = stock().with_own(read_families(tmp_path / "own.toml"))
    assert [family.name for family in catalogue.families[:2]] == ["ours", "debian-netboot"]
    assert len(catalogue.families) == len(stock().families) + 1
    found = catalogue.recognize(listing({"ours.txt": b"release 7", "vmlinuz": PC, **TREES[0].files}))
    assert found is not None
    assert (found.title, found.plans[0].arguments(*URLS)) == ("Ours 7", "root=http://s/content")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[[familie]]", "familie: unknown key; known: family"),
        ("family = 1", "family: must be a list of tables, [[family]]"),
        (OPERATOR_FAMILY.replace("kernel =", "kernal ="), "kernal: unknown key"),
        (OPERATOR_FAMILY.replace('"ours"', '"Ours!"'), "must be a word of lowercase letters"),
        (OPERATOR_FAMILY.replace("(?P<version>", "(?P<version"), "is no regular expression"),
        (OPERATOR_FAMILY.replace('"https://example.org"', '""'), "must name where this is documented"),
        (
            OPERATOR_FAMILY.replace("[[family.recipe]]", '[[family.recipe]]\nloaders = ["lilo"]'),
            '"lilo" is unknown; known: ipxe',
        ),
        ("x =", "own.toml: "),
    ],
)
def test_mistakes_of_the_operator_are_named(text: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_families(tmp_path / "own.toml")
    assert error in str(raised.value)


# ESXi


def test_boot_cfg_for_the_network_has_names_beside_it() -> None:
    """As "Network Booting the ESXi Installer" of the vSphere documentation has it, but for the prefix: by default it is
    the directory of boot.cfg."""
    text = for_network(ESXI_BOOT_CFG.decode())
    assert text == (
        "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nkernel=b.b00\nkernelopt=runweasel\n"
        "modules=jumpstrt.gz --- useropts.gz --- features.gz --- k.b00\nbuild=7.0.3-0.0.18644231\nupdated=0\n"
    )
    assert for_network(text) == text


def test_which_boot_cfg_is_of_esxi() -> None:
    assert is_boot_cfg(ESXI_BOOT_CFG.decode())
    assert not is_boot_cfg("kernel=/vmlinuz\n")
