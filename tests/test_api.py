"""The public names: a change here is a change for every plugin and embedder, and needs a changelog fragment."""

import re
from pathlib import Path

import pytest

import bootfw.api

ROOT = Path(__file__).parent.parent


def test_the_public_names_are_those_written_down() -> None:
    assert sorted(bootfw.api.__all__) == (Path(__file__).parent / "api_names.txt").read_text().split()


@pytest.mark.parametrize("name", bootfw.api.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(bootfw.api, name)
    assert thing.__doc__ or not isinstance(thing, type)


def test_every_kind_of_event_is_public() -> None:
    events = bootfw.events
    kinds = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert kinds <= set(bootfw.api.__all__)


def modules() -> list[Path]:
    return sorted((ROOT / "bootfw").rglob("*.py"))


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_one_noun_and_takes_its_reactor(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 400
    assert not re.search(r"(utils?|common|manager|handler|base)\.py$", module.name)
    takes_the_global_one = re.search(r"^\s*from twisted\.internet import .*\breactor\b", text, re.M)
    assert not takes_the_global_one or module.name == "tap.py" or module.parent.name == "cli"


def test_nothing_stands_in_the_way_of_twisteds_plugins() -> None:
    assert not list((ROOT / "twisted").rglob("__init__.py"))
