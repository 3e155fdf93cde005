"""Converts a TOML table to an instance of an attrs class: for sections, lists of tables, and plugins.

The keys of a table are the fields of the class, or the parameters of a function. All errors of a table are found in one
pass: unknown and missing keys, and for each key its type, its converter and its validator.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import attrs
from attrs import NOTHING, frozen

from bootfw.config.schema import mismatches, unknown_keys
from bootfw.config.units import Seconds, Size
from bootfw.errors import ConfigError, ConfigErrorGroup, ErrorCollector, spelled


@frozen
class Key:
    """A key of a table, and the argument that it is passed as."""

    path: tuple[str, ...]
    """Path below the table, as TOML spells it: usually one name."""
    name: str
    """Name of the argument in Python."""
    annotation: Any
    """The type of the value in TOML."""
    default: Any = NOTHING
    attribute: Any = None
    """The attrs.Attribute; None for a parameter of a function."""
    in_table: bool = False
    """If its converter or validator raises a ConfigError, the path of that error begins at the table, as in plugins;
    false: at the value."""

    @property
    def key(self) -> str:
        """``ports.server``"""
        return ".".join(self.path)

    @property
    def required(self) -> bool:
        """Whether the key has no default."""
        return self.default is NOTHING

    @property
    def metadata(self) -> Mapping[Any, Any]:
        """The metadata of the field."""
        return self.attribute.metadata if self.attribute else {}

    @property
    def tables(self) -> type | None:
        """The class of each table, if the key is a list of tables; else None."""
        kind: type | None = self.metadata.get("tables")
        return kind


def fields_of(kind: type) -> list[Key]:
    """Return the keys of the table for the attrs class *kind*.

    The metadata of a field may have ``key``: its path in the table, if that is not its name; ``toml``: the annotation
    of the value in TOML, if that is not its type; ``tables``: the class of each table, if it is a list of tables;
    ``restart``: true if a change needs a restart; ``table``: true if the field is not a key, but takes the whole table.
    """
    return [
        Key(a.metadata.get("key", (spelled(a.name),)), a.alias, a.metadata.get("toml", a.type), _default_of(a), a)
        for a in attrs.fields(kind)
        if a.init and not a.metadata.get("table")
    ]


def options_of(cls: type) -> list[Key]:
    """Return the options of a plugin's class: the parameters of its classmethod ``configured``, or of the class."""
    hook = getattr(cls, "configured", None)
    if hook is None:
        return list(_parameters(cls))
    parameters = list(_parameters(hook))[1:]
    if inspect.Parameter.VAR_KEYWORD not in {p.kind for p in inspect.signature(hook).parameters.values()}:
        return parameters
    # configured(**options) converts the options itself, so converters and validators of the fields apply to its
    # results only.
    fields = [attrs.evolve(key, attribute=None) for key in _parameters(cls)]
    return list({key.path: key for key in (*fields, *parameters)}.values())


def read_table(table: Any, keys: Sequence[Key], make: Callable[..., Any], kind: type) -> Any:
    """Check *table*, a part of a TOML document, and return the result of *make* for its values.

    :param kind: the class of the result. If it has a static method ``check_table(table)``, that is called even if some
        values are wrong.
    :raise ConfigError: everything that is wrong, with the path below *table*.
    """
    for error in mismatches(table, dict):
        raise error
    collector = ErrorCollector()
    collector.errors += _unknown(table, [key.path for key in keys])
    # A required key that is misspelled is reported once, as unknown, and not as missing too.
    guessed = [error.message.partition("did you mean ")[2] for error in collector.errors]
    values: dict[str, Any] = {}
    converted: dict[str, Any] = {key.name: key.default for key in keys if not key.required}
    wrong: dict[str, list[ConfigError]] = {key.name: [] for key in keys}
    for key in keys:
        try:
            value = _value_at(table, key.path)
        except LookupError:
            if key.required and not any(f'"{key.path[-1]}"' in guess for guess in guessed):
                wrong[key.name] = [ConfigError(f'"{key.path[-1]}" is missing', key.path[:-1])]
            continue
        except TypeError:  # a value on the path that is not a table has been reported already
            continue
        try:
            values[key.name] = _read_value(key, value)
            converted[key.name] = _converted(key, values[key.name])
        except ConfigError as error:
            converted.pop(key.name, None)
            wrong[key.name] += error.each
    for key in keys:
        if key.attribute is not None and key.attribute.validator and key.name in values and not wrong[key.name]:
            try:
                _validate(key, converted)
            except ConfigError as error:
                wrong[key.name] += error.each
    for errors in wrong.values():
        collector.errors += errors
    if hasattr(kind, "check_table"):
        with collector.under():
            kind.check_table(table)
    collector.finish()
    return _instance(make, values, kind)


def _unknown(
    table: Mapping[str, Any], paths: Iterable[tuple[str, ...]], table_path: tuple[str, ...] = ()
) -> list[ConfigError]:
    """Return errors for unknown keys, in nested tables too, and for values that have to be tables."""
    paths = list(paths)
    known = list(dict.fromkeys(path[0] for path in paths))
    errors = list(unknown_keys(table, known, table_path))
    for name in known:
        deeper = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        if deeper and name in table:
            inner = list(mismatches(table[name], dict, (*table_path, name)))
            errors += inner or _unknown(table[name], deeper, (*table_path, name))
    return errors


def _value_at(table: Any, path: Iterable[str]) -> Any:
    """Return the value at *path* below *table*.

    :raise KeyError: there is no such key.
    :raise TypeError: a value on the path is not a table.
    """
    for part in path:
        if not isinstance(table, dict):
            raise TypeError
        table = table[part]
    return table


def _read_value(key: Key, value: Any) -> Any:
    """Convert a TOML *value* to the argument: tables become instances, sizes and times become numbers.

    :raise ConfigError: its type is wrong; the path begins at the table.
    """
    collector = ErrorCollector()
    collector.errors += mismatches(value, key.annotation, key.path)
    if collector.errors or key.tables is None:
        collector.finish()
        return key.annotation.read(value) if key.annotation in (Size, Seconds) else value
    instances = []
    for at, table in enumerate(value):
        with collector.under(*key.path, at):
            instances.append(read_table(table, fields_of(key.tables), key.tables, key.tables))
    collector.finish()
    return tuple(instances)


def _converted(key: Key, value: Any) -> Any:
    """Apply the field's converter.

    :raise ConfigError: the converter refuses *value*.
    """
    if key.attribute is None or not callable(key.attribute.converter):
        return value
    with _errors_about(key):
        return key.attribute.converter(value)


def _validate(key: Key, converted: Mapping[str, Any]) -> None:
    """Call the field's validator.

    :param converted: the valid values of all fields, since a validator may read other fields of its instance.
    :raise ConfigError: the validator refuses the value.
    """
    # AttributeError: the validator reads a field whose value is wrong, which is reported already.
    with _errors_about(key), suppress(AttributeError):
        key.attribute.validator(SimpleNamespace(**converted), key.attribute, converted[key.name])


def _instance(make: Callable[..., Any], values: Mapping[str, Any], kind: type) -> Any:
    """Return the result of *make* for *values*.

    :raise ConfigError: the values contradict each other, or *make* passed an invalid value to *kind*.
    """
    try:
        return make(**values)
    except (ValueError, TypeError) as error:
        if not attrs.has(kind):
            raise ConfigError(_reason(error)) from error
        # The exception does not name the field whose validator raised it, so run the validators one by one.
        with attrs.validators.disabled():
            try:
                instance = make(**values)
            except (ValueError, TypeError):
                raise ConfigError(_reason(error)) from error
        collector = ErrorCollector()
        for key in fields_of(kind):
            if key.attribute.validator is not None:
                with collector.under(), _errors_about(attrs.evolve(key, in_table=True)):
                    key.attribute.validator(instance, key.attribute, getattr(instance, key.attribute.name))
        collector.finish()
        raise ConfigError(_reason(error)) from error


@contextmanager
def _errors_about(key: Key) -> Iterator[None]:
    """Convert an exception inside to a ConfigError about *key*.

    :raise ConfigError: its path begins at the table.
    """
    try:
        yield
    except ConfigError as error:
        if not key.in_table:
            raise error.under(*key.path) from error
        raise ConfigErrorGroup([one if one.path else one.under(*key.path) for one in error.each]) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(_reason(error), key.path) from error


def _parameters(call: Any) -> Iterator[Key]:
    """Yield the parameters of *call* as keys.

    A field whose converter has no annotation has none in the signature either; the metadata "toml" gives it then.
    """
    code = inspect.unwrap(call if not isinstance(call, type) else getattr(call, "__init__"))  # noqa: B009
    if code is object.__init__:
        return
    try:
        hints = typing.get_type_hints(code)
    except NameError:  # the annotation is a name that is imported for type checkers only
        hints = {}
    fields = {a.alias: a for a in attrs.fields(call)} if isinstance(call, type) and attrs.has(call) else {}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            name, default = parameter.name, parameter.default
            if default is inspect.Parameter.empty:
                default = NOTHING
            elif default is NOTHING:
                default = _default_of(fields[name])
            attribute = fields.get(name)
            annotation = attribute.metadata.get("toml") if attribute else None
            yield Key((spelled(name),), name, annotation or hints.get(name, Any), default, attribute, in_table=True)


def _default_of(attribute: Any) -> Any:
    """Return the default of a field; None if it is computed from other fields."""
    default = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory()
    return default


def _reason(error: BaseException) -> str:
    """Return the message of a validator without the name of the field, since the path of the error names it."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.split("' ", 1)[-1] if text.startswith("'") else text


def same_values(one: Any, other: Any) -> bool:
    """Return whether two settings have the same values. Subnets and classes are compared field by field, since they
    define no equality."""
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same_values, one, other))
    if attrs.has(type(one)):
        names = [field.name for field in attrs.fields(type(one)) if field.init]
        return type(one) is type(other) and all(same_values(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)
