"""One table of TOML, checked, and the instance that it makes: the same for sections, their lists, and plugins.

The fields of an attrs class, or the parameters of a function, are the keys. All that is wrong with a table is found
together: unknown and missing keys, and for each key its type, its converter and its validator.
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
    """One key of a table, and the argument that it becomes."""

    path: tuple[str, ...]
    """Below the table: usually one name, as TOML spells it."""
    name: str
    """The argument in Python."""
    annotation: Any
    """The type of the value in TOML."""
    default: Any = NOTHING
    attribute: Any = None
    """The attrs.Attribute; None for a parameter of a function."""
    in_table: bool = False
    """The path of a ConfigError that its converter or validator raises is counted from the table, as plugins do it;
    otherwise from the value."""

    @property
    def key(self) -> str:
        """``ports.server``"""
        return ".".join(self.path)

    @property
    def required(self) -> bool:
        """Whether there is no default."""
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
    """The keys of a table that makes an instance of *kind*, an attrs class.

    A field's metadata may hold ``key``, its path in the table where that is not its name; ``toml``, the annotation of
    what TOML holds where that is not its type; ``tables``, the class of each table of a list; ``restart``, true for a
    key that does not change while the server runs.
    """
    return [
        Key(a.metadata.get("key", (spelled(a.name),)), a.alias, a.metadata.get("toml", a.type), _default_of(a), a)
        for a in attrs.fields(kind)
        if a.init
    ]


def options_of(cls: type) -> list[Key]:
    """The options of a plugin's class: the parameters of its ``configured``, if it has that, or else of the class."""
    hook = getattr(cls, "configured", None)
    if hook is None:
        return list(_parameters(cls))
    named = list(_parameters(hook))[1:]
    if inspect.Parameter.VAR_KEYWORD not in {p.kind for p in inspect.signature(hook).parameters.values()}:
        return named
    # The hook converts the options itself: the converters and validators of the fields are for its results.
    fields = [attrs.evolve(key, attribute=None) for key in _parameters(cls)]
    return list({key.path: key for key in (*fields, *named)}.values())


def read_table(table: Any, keys: Sequence[Key], make: Callable[..., Any], kind: type) -> Any:
    """What *make* returns for the values of *table*, a part of a TOML document.

    :param kind: the class of what is made. Its static method ``check_table(table)`` is called, if there is one, with
        tables of which some value is wrong too.
    :raise ConfigError: everything that is wrong, with the path below *table*.
    """
    for error in mismatches(table, dict):
        raise error
    collector = ErrorCollector()
    collector.errors += _unknown(table, [key.path for key in keys])
    guessed = [error.message.partition("did you mean ")[2] for error in collector.errors]
    given: dict[str, Any] = {}
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
            given[key.name] = _read(key, value)
            converted[key.name] = _converted(key, given[key.name])
        except ConfigError as error:
            converted.pop(key.name, None)
            wrong[key.name] += error.each
    for key in keys:
        if key.attribute is not None and key.attribute.validator and key.name in given and not wrong[key.name]:
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
    return _made(make, given, kind)


def _unknown(
    table: Mapping[str, Any], paths: Iterable[tuple[str, ...]], where: tuple[str, ...] = ()
) -> list[ConfigError]:
    """The errors for unknown keys, in inner tables too, and for values that should be a table."""
    paths = list(paths)
    known = list(dict.fromkeys(path[0] for path in paths))
    errors = list(unknown_keys(table, known, where))
    for name in known:
        deeper = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        if deeper and name in table:
            inner = list(mismatches(table[name], dict, (*where, name)))
            errors += inner or _unknown(table[name], deeper, (*where, name))
    return errors


def _value_at(table: Any, path: Iterable[str]) -> Any:
    """:raise KeyError: it is not there.
    :raise TypeError: there is no table on the way to it."""
    for part in path:
        if not isinstance(table, dict):
            raise TypeError
        table = table[part]
    return table


def _read(key: Key, value: Any) -> Any:
    """*value* as the class or function takes it: tables become instances, sizes and times numbers.

    :raise ConfigError: its type is wrong; the path is that below the table.
    """
    collector = ErrorCollector()
    collector.errors += mismatches(value, key.annotation, key.path)
    if collector.errors or key.tables is None:
        collector.finish()
        return key.annotation.read(value) if key.annotation in (Size, Seconds) else value
    made = []
    for at, table in enumerate(value):
        with collector.under(*key.path, at):
            made.append(read_table(table, fields_of(key.tables), key.tables, key.tables))
    collector.finish()
    return tuple(made)


def _converted(key: Key, value: Any) -> Any:
    """:raise ConfigError: the field's converter refuses *value*."""
    if key.attribute is None or not callable(key.attribute.converter):
        return value
    with _errors_about(key):
        return key.attribute.converter(value)


def _validate(key: Key, converted: Mapping[str, Any]) -> None:
    """Call the field's validator, which may look at the other fields; those that are wrong are not there.

    :raise ConfigError: it refuses the value.
    """
    with _errors_about(key), suppress(AttributeError):
        key.attribute.validator(SimpleNamespace(**converted), key.attribute, converted[key.name])


def _made(make: Callable[..., Any], given: Mapping[str, Any], kind: type) -> Any:
    """:raise ConfigError: what is wrong with the values together, or with one that *make* has given to *kind*."""
    try:
        return make(**given)
    except (ValueError, TypeError) as error:
        if not attrs.has(kind):
            raise ConfigError(_reason(error)) from error
        # attrs does not tell which field's validator has refused, so each one runs once more, by itself.
        with attrs.validators.disabled():
            try:
                instance = make(**given)
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
    """An error inside is about the value of *key*.

    :raise ConfigError: with the path below the table.
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
    """*call*'s parameters as keys; attrs leaves a field's annotation out when an unannotated converter hides it."""
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
    """The default of a field; None if it is computed from the other fields."""
    default = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return None if default.takes_self else default.factory()
    return default


def _reason(error: BaseException) -> str:
    """The message of a validator without the name of the field, which the path has."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.split("' ", 1)[-1] if text.startswith("'") else text


def same_values(one: Any, other: Any) -> bool:
    """Whether two settings were made of the same values. Subnets and classes are compared by their fields: as objects,
    each is equal to itself only."""
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same_values, one, other))
    if attrs.has(type(one)):
        names = [field.name for field in attrs.fields(type(one)) if field.init]
        return type(one) is type(other) and all(same_values(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)
