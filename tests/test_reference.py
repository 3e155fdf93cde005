"""The reference pages."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import referencepages

from bootfw.cli.main import parser
from bootfw.cli.manpage import manpage
from bootfw.config.reference import reference, toml
from bootfw.config.sections import SECTIONS, keys_of
from bootfw.config.tables import Key, fields_of

MANUAL = Path(__file__).parent.parent / "man" / "bootfw.1"
PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"


def test_configuration_page_equals_the_generated_one() -> None:
    assert PAGE.read_text() == reference(), "run: python -m bootfw.config.reference > docs/configuration.md"


def test_manual_page_equals_the_generated_one() -> None:
    assert MANUAL.read_text() == "\n".join(manpage(parser())) + "\n", "run: bootfw manpage > man/bootfw.1"


@pytest.mark.parametrize(
    ("page", "generate", "command"),
    [
        ("commands", referencepages.commands, "referencepages.py commands"),
        ("metrics", referencepages.metrics, "referencepages.py metrics"),
    ],
)
def test_page_equals_the_generated_one(
    page: str, generate: Callable[[], str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    committed = (PAGE.parent / f"{page}.md").read_text()
    assert committed == generate(), f"run: tools/{command} > docs/{page}.md"


def test_every_key_is_explained() -> None:
    page = reference()
    for section in SECTIONS:
        block = page.split(f"## `[{section}]`")[1].split("\n## ")[0]
        explained = {line.split("|")[1].strip(" `"): line.split("|")[4] for line in block.splitlines() if "|" in line}
        for key in every_key(keys_of(section)):
            assert len(explained[".".join(key.path)].strip()) > 20, key.path


def every_key(keys: Iterable[Key]) -> Iterator[Key]:
    for key in keys:
        yield key
        if key.tables is not None:
            yield from every_key(fields_of(key.tables))


def test_a_description_that_begins_with_a_word_of_one_letter_keeps_its_blank() -> None:
    assert "| A PEM file with the certificate" in reference()


def test_tables_in_a_list_have_their_own_table() -> None:
    assert "### `[[dhcp.subnet.host]]`" in reference()
    assert '| `network` | a string | *required* | The network, such as `"10.77.0.0/24"`. |' in reference()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1.5, "1.5"),
        ("single", '"single"'),
        ((("0.0.0.0", 69), ("::", 69)), '["0.0.0.0:69", "[::]:69"]'),
        ([1, 3, 7], "[1, 3, 7]"),
        ({"a": ["b"]}, '{"a" = ["b"]}'),
        ((), "[]"),
    ],
)
def test_defaults_are_shown_as_the_file_has_them(value: object, text: str) -> None:
    assert toml(value) == text
