"""``bootfw personas``: lists the known kinds of clients, and how each is treated."""

import argparse
import json
import os
import sys
from typing import Any

from bootfw.cli.failure import CommandError
from bootfw.cli.tables import table
from bootfw.config.configuration import load_config
from bootfw.errors import nearest, spelled
from bootfw.personas.fingerprint import Fingerprint
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock
from bootfw.terminal import aligned
from bootfw.values import OfferStyle, Option43

_CONDITIONS = (
    "vendor_class",
    "architectures",
    "user_class",
    "oui",
    "requested",
    "ipxe",
    "dhcp_version",
    "tftp_options",
    "tftp_files",
    "tftp_ports",
    "personas",
)
_ABOUT = ("name", "reason", "source")


_EPILOG = """
Examples:
  bootfw personas                              all of them
  bootfw personas uefi                         everything about this one
  bootfw personas -c /etc/bootfw/bootfw.toml   with those of a configuration
"""


def add_personas(commands: Any) -> None:
    """Add the command to those of the parser."""
    about = "Shows the kinds of clients: how each is recognized and treated, and its source. The first match counts."
    parser = commands.add_parser(
        "personas",
        help="show the kinds of clients that are known",
        description=about,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default="", help="show everything about this one")
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=None, help="include the personas of this configuration"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with everything")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    settings = load_config(options.config, os.environ).settings
    own_names = {rule.name for rule in settings.persona}
    rules = stock().with_own(settings.persona).rules
    if options.name:
        chosen = [rule for rule in rules if rule.name == options.name]
        if not chosen:
            known = [rule.name for rule in rules]
            raise CommandError(f'there is no persona "{options.name}"{nearest(options.name, known)}')
        rules = tuple(chosen)
    if options.json:
        records = [
            {**_keys_of(rule), "from": "configuration" if rule.name in own_names else "bootfw"} for rule in rules
        ]
        _print(json.dumps(records, indent=2))
    elif options.name:
        [rule] = rules
        rows = [(key, _text(value)) for key, value in _keys_of(rule).items() if key not in ("name", "source")]
        _print(aligned(rows))
        if rule.source:
            _print(f"\nSeen: {' '.join(rule.source.split())}")
    else:
        kinds = [("PERSONA", "RECOGNIZED BY", "TREATMENT")]
        kinds += [
            (rule.name + ("*" if rule.name in own_names else ""), _cell(rule, True), _cell(rule, False))
            for rule in rules
        ]
        _print(table(kinds))
        if own_names:
            _print("* from the configuration")


def _keys_of(rule: Rule) -> dict[str, Any]:
    """Return the fields of a rule, by their keys in the configuration."""
    return {spelled(name): _plain(value) for name, value in rule.non_defaults().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, OfferStyle | Option43):
        return value.value
    if isinstance(value, Fingerprint):
        return value.texts
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def _cell(rule: Rule, conditions: bool) -> str:
    texts = [
        f"{key}: {_text(value)}"
        for key, value in _keys_of(rule).items()
        if (key.replace("-", "_") in _CONDITIONS) is conditions and key not in _ABOUT
    ]
    return "; ".join(texts) or "as usual"


def conditions(rule: Rule) -> dict[str, str]:
    """Return what a client has to send for *rule* to match, by the keys of the configuration."""
    return {
        key: _text(value)
        for key, value in _keys_of(rule).items()
        if key.replace("-", "_") in (*_CONDITIONS, "boot_file_requested")
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(part) or "none" for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{pattern} -> {' '.join(alternatives)}" for pattern, alternatives in value.items())
    return str(value)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
