"""Plugins: classes as schemas of options, names in the configuration, and the error for each wrong plugin."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import define, field, frozen, validators
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.config.schema import mismatches
from bootfw.config.tables import options_of
from bootfw.config.units import Seconds, Size
from bootfw.errors import ConfigError, PluginError
from bootfw.interfaces import IBackend, IBootFileResolver, IBootPlugin, ILeaseStore, IWatchdogPolicy, IWritableBackend
from bootfw.lease import Lease
from bootfw.plugins import PluginContext, boot_plugin, configure, kind_of, list_plugins, load

CONTEXT = PluginContext(None, Path("/etc/bootfw"))


def _not_zero(instance: Any, attribute: Any, value: int) -> None:
    if value == 0:
        raise ValueError("must not be zero")


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"must be even, not {value}")
    return value


def _path_of_its_own(value: dict[str, str]) -> dict[str, str]:
    if not value.keys().isdisjoint({"nobody"}):
        raise ConfigError("must name somebody")
    for key in value:
        if key != key.lower():
            raise ConfigError("must be lower-case", ("some_table", key))
    return value


@implementer(IBackend)
@define
class Everything:
    """Takes an option of each type.

    And says more.
    """

    text: str
    some_table: dict[str, str] = field(factory=dict, converter=_path_of_its_own)
    first_seconds: float = 1.0
    attempts: int = field(default=3, validator=_not_zero)
    patient: bool = False
    sizes: list[int] = field(factory=list, validator=validators.max_len(2))
    pair: tuple[str, int] = ("a", 1)
    colour: Literal["red", "green"] = "red"
    port_or_name: int | str = 0
    even: int = field(default=0, converter=_even)
    maybe: str | None = None
    hidden: int = field(default=1, init=False)

    def open(self, path: str, request: Any) -> Any: ...


PLUGIN = boot_plugin(IBackend, Everything)


def error_of(options: Mapping[str, Any], plugin: IBootPlugin = PLUGIN) -> str:
    with pytest.raises(ConfigError) as caught:
        configure(plugin, options, CONTEXT)
    return str(caught.value)


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    assert PLUGIN.summary == "Takes an option of each type."
    assert boot_plugin(IBackend, Everything, summary="Mine.").summary == "Mine."
    assert IBootPlugin.providedBy(PLUGIN)


def test_options_reach_the_fields_with_dashes_for_underscores() -> None:
    plugin = configure(
        PLUGIN,
        {
            "text": "t",
            "some-table": {"a": "b"},
            "first-seconds": 2,
            "attempts": 5,
            "patient": True,
            "sizes": [1],
            "pair": ["x", 2],
            "colour": "green",
            "port-or-name": "tftp",
            "even": 4,
            "maybe": "m",
        },
        CONTEXT,
    )
    assert plugin == Everything(
        "t",
        {"a": "b"},
        2,
        5,
        True,
        [1],
        ["x", 2],  # type: ignore[arg-type]  # as TOML has it
        "green",
        "tftp",
        4,
        "m",
    )


def test_omitted_options_keep_their_defaults() -> None:
    assert configure(PLUGIN, {"text": ""}, CONTEXT) == Everything("")


KNOWN = "text, some-table, first-seconds, attempts, patient, sizes, pair, colour, port-or-name, even, maybe"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, '"text" is missing'),
        ({"txt": ""}, f'txt: unknown key; known: {KNOWN}; did you mean "text"?'),
        ({"text": "", "some_table": {}}, f'some_table: unknown key; known: {KNOWN}; did you mean "some-table"?'),
        ({"text": "", "zzz": 1}, f"zzz: unknown key; known: {KNOWN}"),
        ({"text": "", "hidden": 1}, f"hidden: unknown key; known: {KNOWN}"),
        ({"text": 5}, "text: must be a string, not 5"),
        ({"text": ["a"]}, "text: must be a string, not a list"),
        ({"text": "", "some-table": "a"}, 'some-table: must be a table of strings, not "a"'),
        ({"text": "", "some-table": {"k": 1}}, "some-table.k: must be a string, not 1"),
        ({"text": "", "first-seconds": "1"}, 'first-seconds: must be a number, not "1"'),
        ({"text": "", "first-seconds": True}, "first-seconds: must be a number, not true"),
        ({"text": "", "attempts": 1.5}, "attempts: must be an integer, not 1.5"),
        ({"text": "", "attempts": False}, "attempts: must be an integer, not false"),
        ({"text": "", "patient": 1}, "patient: must be true or false, not 1"),
        ({"text": "", "sizes": 1}, "sizes: must be a list of integers, not 1"),
        ({"text": "", "sizes": [1, "b"]}, 'sizes[1]: must be an integer, not "b"'),
        ({"text": "", "pair": ["a"]}, "pair: must be a list of 2 values, not 1"),
        ({"text": "", "pair": ["a", "b"]}, 'pair[1]: must be an integer, not "b"'),
        ({"text": "", "colour": "blue"}, 'colour: must be one of "red", "green", not "blue"'),
        ({"text": "", "port-or-name": 1.5}, "port-or-name: must be an integer or a string, not 1.5"),
        ({"text": "", "maybe": 1}, "maybe: must be a string, not 1"),
        # by converters and validators
        ({"text": "", "even": 3}, "even: must be even, not 3"),
        ({"text": "", "attempts": 0}, "attempts: must not be zero"),
        ({"text": "", "sizes": [1, 2, 3]}, "sizes: Length of 'sizes' must be <= 2: 3"),
        ({"text": "", "some-table": {"nobody": "v"}}, "some-table: must name somebody"),
        ({"text": "", "some-table": {"K": "v"}}, "some_table.K: must be lower-case"),
    ],
)
def test_wrong_option_errors_name_a_valid_value(options: Mapping[str, Any], message: str) -> None:
    assert error_of(options) == message


def test_all_wrong_options_are_named_together() -> None:
    options = {"txet": "", "zzz": 1, "some-table": {"K": "v"}, "attempts": 0, "even": 3, "colour": "blue"}
    with pytest.raises(ConfigError) as caught:
        configure(PLUGIN, options, CONTEXT)
    assert str(caught.value).splitlines() == [
        f'txet: unknown key; known: {KNOWN}; did you mean "text"?',
        f"zzz: unknown key; known: {KNOWN}",
        "some_table.K: must be lower-case",
        "attempts: must not be zero",
        'colour: must be one of "red", "green", not "blue"',
        "even: must be even, not 3",
    ]
    assert [error.path for error in caught.value.each][-1] == ("even",)


def test_all_validators_run() -> None:
    assert error_of({"text": "", "attempts": 0, "sizes": [1, 2, 3], "zzz": 1}).splitlines() == [
        f"zzz: unknown key; known: {KNOWN}",
        "attempts: must not be zero",
        "sizes: Length of 'sizes' must be <= 2: 3",
    ]


def _not_above_most(instance: Any, attribute: Any, value: int) -> None:
    if value > instance.most:
        raise ValueError(f"must not be more than most, {instance.most}")


@implementer(IBackend)
@frozen
class Limits:
    """Has a validator that looks at another option."""

    first: int = field(validator=_not_above_most)
    most: int = field(default=3, converter=_even)
    wait: float = field(default=1.0, metadata={"toml": Seconds})
    memory: int = field(default=0, validator=_not_zero, metadata={"toml": Size})

    def open(self, path: str, request: Any) -> Any: ...


LIMITS = boot_plugin(IBackend, Limits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 5, "most": 4, "memory": 1}, "first: must not be more than most, 4"),
        # Nothing can be said about "first" while "most" is wrong.
        ({"first": 5, "most": 3, "memory": 0}, "most: must be even, not 3\nmemory: must not be zero"),
        ({"first": 5, "most": 6, "memory": "0 KiB"}, "memory: must not be zero"),
    ],
)
def test_a_validator_may_look_at_other_options(options: Mapping[str, Any], message: str) -> None:
    assert error_of(options, LIMITS) == message


def test_sizes_and_times_may_have_units() -> None:
    plugin = configure(LIMITS, {"first": 1, "most": 2, "wait": "2 min", "memory": "1 KiB"}, CONTEXT)
    assert (plugin.wait, plugin.memory) == (120, 1024)


def test_an_old_key_is_an_error_that_names_the_new_one() -> None:
    archive = load("archive", "bootfw.backends")
    assert error_of({"file": "a.tar", "unpack-octets": 1}, archive) == 'unpack-octets: is called "unpack-size" now'


@implementer(IBackend)
@frozen
class InDirectory:
    """Resolves its root against the directory of the configuration."""

    root: Path
    depth: int = field(default=0, validator=_not_zero)

    @classmethod
    def configured(cls, context: PluginContext, root: str, depth: int = 1) -> "InDirectory":
        if not root:
            raise ConfigError("must not be empty")
        return cls(context.directory / root, depth)

    def open(self, path: str, request: Any) -> Any: ...


def test_configured_gets_the_context() -> None:
    assert configure(boot_plugin(IBackend, InDirectory), {"root": "files"}, CONTEXT).root == Path("/etc/bootfw/files")


def test_options_of_configured_are_its_own_parameters() -> None:
    plugin = boot_plugin(IBackend, InDirectory)
    assert [(option.key, option.annotation) for option in options_of(InDirectory)] == [("root", str), ("depth", int)]
    assert error_of({"root": 1}, plugin) == "root: must be a string, not 1"
    assert error_of({}, plugin) == '"root" is missing'
    assert error_of({"root": ""}, plugin) == "must not be empty"
    assert error_of({"root": "a", "depth": 0}, plugin) == "depth: must not be zero"


@implementer(IBackend)
@frozen
class PassingOn:
    """Takes its fields by name."""

    root: Path = field(converter=Path)
    depth: int = 1

    @classmethod
    def configured(cls, context: PluginContext, **options: Any) -> "PassingOn":
        return cls(**options)

    def open(self, path: str, request: Any) -> Any: ...


def test_configured_with_any_options_takes_the_fields() -> None:
    plugin = boot_plugin(IBackend, PassingOn)
    assert configure(plugin, {"root": "a", "depth": 2}, CONTEXT) == PassingOn(Path("a"), 2)
    assert error_of({"root": "a", "depth": "2"}, plugin) == 'depth: must be an integer, not "2"'
    assert error_of({"rot": "a"}, plugin) == 'rot: unknown key; known: root, depth; did you mean "root"?'


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be absolute")
    return value


def _not_two(instance: Any, attribute: Any, value: int) -> None:
    if value == 2:
        raise ConfigError("must not be two", ("height",))


@implementer(IBackend)
@frozen
class Adapting:
    """Its fields are what configured() makes of the options."""

    root: Path = field(converter=_absolute)
    depth: int = field(default=1, validator=_not_zero)
    height: int = field(default=1, validator=_not_two)

    @classmethod
    def configured(cls, context: PluginContext, **options: Any) -> "Adapting":
        return cls(**{**options, "root": context.directory / options["root"]})

    def open(self, path: str, request: Any) -> Any: ...


def test_converters_and_validators_check_the_values_of_configured() -> None:
    plugin = boot_plugin(IBackend, Adapting)
    assert configure(plugin, {"root": "a"}, CONTEXT).root == Path("/etc/bootfw/a")
    assert error_of({"root": "a", "depth": 0, "height": 2}, plugin).splitlines() == [
        "depth: must not be zero",
        "height: must not be two",
    ]


@implementer(IBackend)
class Plain:
    """A class without options."""

    def open(self, path: str, request: Any) -> Any: ...


def test_a_plain_class_is_a_plugin_without_options() -> None:
    plugin = boot_plugin(IBackend, Plain)
    assert isinstance(configure(plugin, {}, CONTEXT), Plain)
    assert error_of({"a": 1}, plugin) == "a: unknown key; this table takes no keys"


class Nothing:
    """Provides nothing."""


@implementer(IBackend)
class WithoutOpen:  # type: ignore[misc]  # on purpose
    """Declares an interface whose method it lacks."""


@implementer(IBackend)
class Broken:  # type: ignore[misc]  # never made, so it needs no methods
    """Raises."""

    def __init__(self) -> None:
        raise ZeroDivisionError("of its own")


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Nothing, "the plugin made an object that does not provide IBackend: "),
        (WithoutOpen, "the plugin made an object that does not provide IBackend: "),
        (Broken, "the plugin failed: ZeroDivisionError: of its own"),
    ],
)
def test_result_of_a_plugin_is_verified(cls: type, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        configure(boot_plugin(IBackend, cls), {}, CONTEXT)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# Names


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a distribution with entry points and modules into a directory of the test."""
    modules = set(sys.modules)

    def install(name: str, entry_points: str, **sources: str) -> None:
        metadata = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        for module, source in sources.items():
            (tmp_path / f"{module}.py").write_text(source)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    for name in set(sys.modules) - modules:
        if name.startswith("acme"):
            del sys.modules[name]


RESOLVER = """
from zope.interface import implementer
from bootfw.interfaces import IBootFileResolver
from bootfw.plugins import boot_plugin

@implementer(IBootFileResolver)
class Inventory:
    "Asks the inventory."
    def resolve(self, request):
        return None

plugin = boot_plugin(IBootFileResolver, Inventory)
text = "no plugin"
"""


def refused(reference: str, group: str = "bootfw.resolvers") -> str:
    with pytest.raises(PluginError) as caught:
        load(reference, group)
    assert caught.value.path == ()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_load_by_entry_point_and_by_module_is_the_same(distribution: Callable[..., None]) -> None:
    distribution("acme", "[bootfw.resolvers]\ninventory = acme_inventory:plugin\n", acme_inventory=RESOLVER)
    plugin = load("inventory", "bootfw.resolvers")
    assert plugin is load("acme_inventory:plugin", "bootfw.resolvers")
    assert plugin.summary == "Asks the inventory."


def test_plugins_installed_or_removed_while_the_server_runs_are_noticed(
    distribution: Callable[..., None], tmp_path: Path
) -> None:
    distribution("acme", "", acme_inventory=RESOLVER)
    assert refused("inventory").startswith('no plugin "inventory"; known: ')
    metadata = tmp_path / "acme-1.2.dist-info"
    (metadata / "entry_points.txt").write_text("[bootfw.resolvers]\ninventory = acme_inventory:plugin\n")
    assert load("inventory", "bootfw.resolvers").summary == "Asks the inventory."
    shutil.rmtree(metadata)
    # Where all this happens within a tick of the file system's clock, the directory would be as old as before.
    os.utime(tmp_path, (0, 0))
    assert refused("inventory").startswith('no plugin "inventory"; known: ')


def test_a_missing_plugin_is_named_with_the_known_ones(distribution: Callable[..., None]) -> None:
    distribution("acme", "[bootfw.resolvers]\ninventory = acme_inventory:plugin\n")
    known = "by-architecture, by-client, callout, inventory, loop-breaker, next-boot, pxe-menu, static"
    assert refused("inventroy") == f'no plugin "inventroy"; known: {known}; did you mean "inventory"?'
    assert refused("zzz") == f'no plugin "zzz"; known: {known}'


def test_without_any_plugin_the_installation_is_suspected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert (
        refused("static") == 'no plugin "static": no plugin is installed at all; is the bootfw distribution installed?'
    )


def test_a_broken_import_names_the_exception_and_the_distribution(
    distribution: Callable[..., None], tmp_path: Path
) -> None:
    distribution(
        "acme-boot",
        "[bootfw.resolvers]\nneeding = acme_needing:plugin\nsyntax = acme_syntax:plugin\nabsent = acme_text:plugin\n",
        acme_needing="import acme_database",
        acme_syntax="def (",
        acme_text="",
    )
    path = str(tmp_path / "acme_needing.py")
    assert refused("needing") == (
        f'"needing" (from acme-boot 1.2) can\'t be loaded: it imports "acme_database" ({path}, line 1), '
        "which is not installed"
    )
    assert refused("syntax").startswith('"syntax" (from acme-boot 1.2) can\'t be loaded: SyntaxError: ')
    assert refused("absent") == (
        '"absent" (from acme-boot 1.2) can\'t be loaded: acme_text has no "plugin"; a module names its plugin: '
        "plugin = boot_plugin(...)"
    )
    assert refused("acme_nowhere:plugin") == (
        '"acme_nowhere:plugin" can\'t be loaded: no module "acme_nowhere": install it, or name its directory '
        "(PYTHONPATH=. for this one)"
    )


def test_the_cause_of_a_broken_import_is_kept(distribution: Callable[..., None]) -> None:
    distribution("acme", "", acme_needing="import acme_database")
    with pytest.raises(PluginError) as caught:
        load("acme_needing:plugin", "bootfw.resolvers")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_name_that_two_distributions_install_is_refused(distribution: Callable[..., None]) -> None:
    distribution("acme", "[bootfw.resolvers]\ninventory = acme_inventory:plugin\n", acme_inventory=RESOLVER)
    distribution("acme-old", "[bootfw.resolvers]\ninventory = acme_inventory:plugin\n")
    assert refused("inventory") == (
        '"inventory" is installed by several distributions: acme 1.2, acme-old 1.2; write "module:attribute" instead'
    )
    assert load("acme_inventory:plugin", "bootfw.resolvers")


def test_non_plugins_are_refused(distribution: Callable[..., None]) -> None:
    distribution("acme", "", acme_inventory=RESOLVER)
    assert refused("acme_inventory:text") == (
        '"acme_inventory:text" is not a plugin, but str "no plugin"; '
        "name the result of boot_plugin(IBootFileResolver, YourClass)"
    )
    assert refused("acme_inventory:Inventory") == (
        '"acme_inventory:Inventory" is a class, not a plugin; name boot_plugin(IBootFileResolver, Inventory) instead'
    )


def test_a_plugin_of_another_kind_is_refused(distribution: Callable[..., None]) -> None:
    distribution("acme", "[bootfw.backends]\ninventory = acme_inventory:plugin\n", acme_inventory=RESOLVER)
    assert refused("inventory", "bootfw.backends") == (
        '"inventory" (from acme 1.2) makes IBootFileResolver, but backend needs IBackend: write it under [[resolver]]'
    )


def test_a_plugin_of_an_extended_interface_is_accepted() -> None:
    sys.modules["acme_writable"] = module = type(sys)("acme_writable")
    module.plugin = boot_plugin(IWritableBackend, Plain)  # type: ignore[attr-defined]
    try:
        assert load("acme_writable:plugin", "bootfw.backends").provides is IWritableBackend
    finally:
        del sys.modules["acme_writable"]


def test_list_plugins_shows_broken_plugins(distribution: Callable[..., None]) -> None:
    distribution(
        "acme-boot",
        "[bootfw.resolvers]\ninventory = acme_inventory:plugin\n[bootfw.backends]\nneeding = acme_needing:plugin\n",
        acme_inventory=RESOLVER,
        acme_needing="import acme_database",
    )
    rows = {(row.kind, row.name): row for row in list_plugins()}
    good, broken = rows["resolver", "inventory"], rows["backend", "needing"]
    assert (good.distribution, good.summary, good.error) == ("acme-boot 1.2", "Asks the inventory.", "")
    assert (broken.distribution, broken.summary) == ("acme-boot 1.2", "")
    assert "acme_database" in broken.error
    assert {kind for kind, _ in rows} == {"backend", "resolver", "watchdog", "store", "observer"}


def test_every_built_in_loads_and_has_a_summary() -> None:
    rows = [row for row in list_plugins() if row.distribution.startswith("bootfw 0")]
    assert [row for row in rows if row.error or not row.summary] == []
    assert [f"{row.kind} {row.name}" for row in rows] == [
        "backend archive",
        "backend directory",
        "backend distribution",
        "backend images",
        "backend memory",
        "backend menu",
        "backend metadata",
        "backend template",
        "resolver by-architecture",
        "resolver by-client",
        "resolver callout",
        "resolver loop-breaker",
        "resolver next-boot",
        "resolver pxe-menu",
        "resolver static",
        "watchdog adaptive",
        "watchdog exponential",
        "watchdog fixed",
        "watchdog hpa",
        "store memory",
        "store sqlite",
        "observer log",
        "observer otel",
        "observer webhook",
    ]


def test_kinds_are_the_sections_of_the_configuration() -> None:
    assert kind_of("bootfw.watchdogs") == "watchdog"
    assert kind_of("bootfw.stores") == "store"


# What TOML may hold

toml_values: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)

annotations = st.sampled_from(
    [
        str,
        int,
        float,
        bool,
        list[str],
        list[list[int]],
        tuple[int, ...],
        tuple[str, int],
        dict[str, int],
        dict[str, list[str]],
        int | None,
        Sequence[float],
        Mapping[str, str],
        Literal["a", "b"],
        list[int] | str,
        IWatchdogPolicy,
        IBootFileResolver,
        Any,
        list,
        dict,
    ]
)


@given(toml_values, annotations)
def test_mismatches_yields_errors_with_existing_paths(value: Any, annotation: Any) -> None:
    for error in mismatches(value, annotation):
        part_of_value = value
        for part in error.path:
            part_of_value = part_of_value[part]
        assert error.message.startswith("must be ")


def test_error_of_a_union_explains_the_closest_type() -> None:
    (error,) = mismatches([1, "x"], list[int] | str)
    assert str(error) == '[1]: must be an integer, not "x"'


@given(st.lists(st.integers()), st.lists(st.text(), min_size=1))
def test_mismatches_finds_every_wrong_item(right: list[int], wrong: list[str]) -> None:
    assert [error.path for error in mismatches([*right, *wrong], list[int])] == [
        (len(right) + index,) for index in range(len(wrong))
    ]


@implementer(ILeaseStore)
class WithoutReservations:
    """A lease store from before reservations had their own interface."""

    def load(self) -> Iterable[Lease]:
        raise NotImplementedError

    def commit(self, leases: Sequence[Lease]) -> Deferred[None]:
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        raise NotImplementedError


def test_lease_store_without_reservations_is_refused() -> None:
    with pytest.raises(PluginError) as caught:
        configure(boot_plugin(ILeaseStore, WithoutReservations), {}, CONTEXT)
    assert str(caught.value) == (
        "the plugin made an object that does not provide IReservationStore: add @implementer(IReservationStore) above "
        "the class WithoutReservations; the class WithoutReservations has no reservations(); the class "
        "WithoutReservations has no save_reservations(reservations)"
    )
