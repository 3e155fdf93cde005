"""A storm as a TOML file: how many machines boot what, when, and over which links."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen
from attrs.validators import and_, ge, gt, le

from bootfw.config.tables import fields_of, read_table
from bootfw.errors import ConfigError, ErrorCollector, nearest
from bootfw.storm.arrivals import Arrivals, Pattern
from bootfw.storm.link import LinkQuality
from bootfw.storm.program import Boot, Program

_SHARE = and_(ge(0.0), le(1.0))

HESITATION = 4.8
"""Seconds until a slow machine acknowledges an OACK, as observed in Launchpad #1155556."""


@frozen
class Share:
    """Machines of one kind."""

    boot: str
    """The name of their boot."""
    share: float = field(default=1.0, validator=gt(0))
    """Of all, in proportion to those of the other kinds."""


@frozen
class Storm:
    """Everything about a storm but its target."""

    machines: int = field(default=100, validator=ge(1))
    seconds: float = field(default=120.0, validator=gt(0))
    """After the last machine was switched on, until the storm ends though some have neither booted nor failed."""
    seed: int = 1
    """Seed of everything random."""
    arrival: Pattern = "at-once"
    """"at-once": all at the same moment. "poisson": independent of each other, *rate* a second. "racks": *rack*
    machines at once, the next ones after *rack-seconds*."""
    rate: float = field(default=50.0, validator=gt(0))
    rack: int = field(default=40, validator=ge(1))
    rack_seconds: float = field(default=5.0, validator=ge(0))
    loss: float = field(default=0.0, validator=_SHARE)
    """The share of packets that are lost, in each direction."""
    duplication: float = field(default=0.0, validator=_SHARE)
    reordering: float = field(default=0.0, validator=_SHARE)
    delay: float = field(default=0.0, validator=ge(0))
    """Seconds that every packet takes, in each direction."""
    jitter: float = field(default=0.0, validator=ge(0))
    slow: float = field(default=0.0, validator=_SHARE)
    """The share of machines that acknowledge an OACK after 4.8 seconds."""

    @property
    def arrivals(self) -> Arrivals:
        """When machines are switched on."""
        return Arrivals(self.arrival, self.rate, self.rack, self.rack_seconds)

    @property
    def link(self) -> LinkQuality:
        """How bad each link is."""
        return LinkQuality(self.loss, self.duplication, self.reordering, self.delay, self.jitter)


@frozen
class Scenario:
    """A storm, its machines and what they run."""

    storm: Storm
    shares: tuple[Share, ...]
    boots: Mapping[str, Boot]
    programs: Mapping[str, Program]

    def boot_of(self, number: int) -> Boot:
        """Return the boot of the machine with that number. Kinds, and slow machines, are spread evenly over the
        numbers."""
        total = sum(share.share for share in self.shares)
        # Multiples of the golden ratio, modulo 1, are spread evenly over 0 to 1 whatever their number is. So the shares
        # also hold for the machines that are switched on first.
        position, end = number * 0.6180339887 % 1 * total, 0.0
        chosen = self.shares[-1]
        for share in self.shares:
            end += share.share
            if position < end:
                chosen = share
                break
        boot = self.boots[chosen.boot]
        slow = self.storm.slow
        if slow and int((number + 1) * slow) > int(number * slow):
            steps = (evolve(step, hesitates=HESITATION) if step.do == "load" else step for step in boot.steps)
            boot = evolve(boot, steps=tuple(steps))
        return boot


def read_scenario(
    path: Path | None = None, shares: Sequence[Share] = (), changes: Mapping[str, Any] | None = None
) -> Scenario:
    """Return the scenario in a file, or one of built-in boots only.

    :param path: a TOML file with ``[storm]``, ``[[machine]]``, and ``[[boot]]`` and ``[[program]]`` of its own.
    :param shares: take the place of those of the file.
    :param changes: values that take the place of those of ``[storm]``.
    :raise ConfigError: everything that is wrong.
    :raise OSError: the file can't be read.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8-sig")) if path is not None else {}
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error
    stock = tomllib.loads(files("bootfw.storm").joinpath("boots.toml").read_text("utf-8"))
    collector = ErrorCollector()
    for key in document.keys() - {"storm", "machine", "boot", "program"}:
        collector.errors.append(ConfigError("unknown key; known: storm, machine, boot, program", (key,)))
    storm: Any = Storm()
    with collector.under("storm"):
        storm = read_table({**document.get("storm", {}), **(changes or {})}, fields_of(Storm), Storm, Storm)
    programs = _by_name("program", Program, (stock, document), collector)
    boots = _by_name("boot", Boot, (stock, document), collector)
    if not shares:
        shares = tuple(_each("machine", Share, document, collector))
    scenario = Scenario(storm, tuple(shares) or (Share("ipxe-http"),), boots, programs)
    collector.errors += _unknown_names(scenario)
    collector.finish()
    return scenario


def _each(key: str, kind: type, document: Mapping[str, Any], collector: ErrorCollector) -> Iterable[Any]:
    tables = document.get(key, [])
    if not isinstance(tables, list):
        collector.errors.append(ConfigError(f"must be a list of tables, [[{key}]]", (key,)))
        return
    for at, table in enumerate(tables):
        with collector.under(key, at):
            yield read_table(table, fields_of(kind), kind, kind)


def _by_name(key: str, kind: type, documents: Iterable[Mapping[str, Any]], collector: ErrorCollector) -> dict[str, Any]:
    """Objects by name; of two with the same name the later wins."""
    return {each.name: each for document in documents for each in _each(key, kind, document, collector)}


def _unknown_names(scenario: Scenario) -> Iterable[ConfigError]:
    for at, share in enumerate(scenario.shares):
        if share.boot not in scenario.boots:
            yield _unknown("boot", share.boot, scenario.boots, ("machine", at, "boot"))
    for boot in scenario.boots.values():
        for at, step in enumerate(boot.steps):
            if step.program not in scenario.programs and (step.program or step.do != "pause"):
                yield _unknown("program", step.program, scenario.programs, ("boot", boot.name, "steps", at, "program"))


def _unknown(kind: str, name: str, known: Mapping[str, Any], path: tuple[str | int, ...]) -> ConfigError:
    return ConfigError(f'no {kind} "{name}"; known: {", ".join(known)}{nearest(name, list(known))}', path)
