"""The public API: a change here is a change for every plugin and embedder, and needs a changelog fragment."""

import re
from pathlib import Path

import publicapi
import pytest

import bootfw.api
import bootfw.testing

ROOT = Path(__file__).parent.parent


def test_signatures_equal_the_recorded_ones() -> None:
    """See docs/compatibility.md. A name that is removed or gets other parameters needs a "plugin-api" fragment."""
    recorded = (ROOT / "tests/api_signatures.txt").read_text()
    found = publicapi.signatures()
    assert found == recorded, "run: tools/publicapi.py signatures > tests/api_signatures.txt"


@pytest.mark.parametrize("name", ["BootFile", "IBackend", "DirectoryBackend", "ResolverContract", "build", "NEVER"])
def test_the_signatures_have_each_kind_of_name(name: str) -> None:
    kinds = "class|interface|enum|exception|def"
    assert re.search(rf"^(?:(?:{kinds}) {name}\b|{name} = )", publicapi.signatures(), re.M)


def test_signatures_have_the_methods_of_private_base_classes() -> None:
    """An embedder sees no difference between a method of the class and one of its base."""
    [kit] = [each for each in publicapi.public("bootfw.testing") if each.name == "ResolverContract"]
    assert "    def wait(deferred: 'Deferred[Any]') -> None" in list(kit.signature())


def test_every_public_name_is_on_a_page_of_the_reference() -> None:
    pages = publicapi.page() + publicapi.events()
    assert set(re.findall(r"^##+ (\w+)$", pages, re.M)) >= {*bootfw.api.__all__, *bootfw.testing.__all__} - {"Event"}


def test_every_public_name_exists_and_is_documented() -> None:
    objects = {name: getattr(bootfw.api, name) for name in bootfw.api.__all__}
    undocumented = [name for name, object_ in objects.items() if isinstance(object_, type) and not object_.__doc__]
    assert undocumented == []


def test_every_kind_of_event_is_public() -> None:
    events = bootfw.events
    kinds = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert kinds <= set(bootfw.api.__all__)


def sources() -> dict[str, str]:
    """Each module of the package by its path, with its text."""
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "bootfw").rglob("*.py"))}


def test_each_module_is_named_after_a_noun() -> None:
    assert [path for path in sources() if re.search(r"(utils?|common|manager|handler|base)\.py$", path)] == []


def test_only_programs_import_the_global_reactor() -> None:
    importers = [
        path
        for path, text in sources().items()
        if re.search(r"^\s*from twisted\.internet import .*\breactor\b", text, re.M)
    ]
    assert [path for path in importers if Path(path).name != "tap.py" and Path(path).parent.name != "cli"] == []


def test_twisted_plugin_directory_is_no_package() -> None:
    assert not list((ROOT / "twisted").rglob("__init__.py"))
