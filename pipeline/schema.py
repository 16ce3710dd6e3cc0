"""From plain YAML content to frozen dataclasses, checked against their annotations.

A field's range is part of its annotation: `Annotated[int, Range(1)]`. Supported are int, float, str, tuple[X, ...] (a
list in YAML), dict[str, X] and further dataclasses.
"""

import importlib
import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints


class ConfigError(ValueError):
    """A parameter that cannot be used. The message gives its place, its value and what is allowed."""

    def __init__(self, where: str, content: str, want: str) -> None:
        super().__init__(f"parameter {where} is {content}, want {want}")


class FileError(ConfigError):
    """A file of parameters that cannot be used, and why."""

    def __init__(self, path: object, why: object) -> None:
        ValueError.__init__(self, f"{path}: {why}")


class Rule(Protocol):
    """A condition on a value of the right type; `str(rule)` is the condition in words."""

    def allows(self, value: Any) -> bool: ...


@dataclass(frozen=True)
class Range:
    """A number in [low, high]. With `open_low`, low itself is not allowed."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def allows(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"at most {self.high:g}"
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    names: tuple[str, ...]

    def allows(self, value: str) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"that is one of {', '.join(self.names)}"


@dataclass(frozen=True)
class Registered:
    """A name in a registry of the code, or one of `others`.

    `registry` is "package.module:attribute", a collection of names or a function that returns one. It is imported only
    when a value is checked, because it may need torch, and no stage depends on all of it.
    """

    registry: str
    others: tuple[str, ...] = ()

    def allows(self, value: str) -> bool:
        return value in self._names()

    def __str__(self) -> str:
        return f"that is one of {', '.join(self._names())}"

    def _names(self) -> Collection[str]:
        module, _, attribute = self.registry.partition(":")
        names = getattr(importlib.import_module(module), attribute)
        return (*(names() if inspect.isfunction(names) else names), *self.others)


@dataclass(frozen=True)
class NonEmpty:
    """A list, a mapping or a text with at least one element; a list also without repetition."""

    def allows(self, value: Collection[object]) -> bool:
        return len(value) > 0 and (not isinstance(value, tuple) or len(set(value)) == len(value))

    def __str__(self) -> str:
        return "(not empty, no repetition)"


def record(content: object, cls: type, where: str = "") -> Any:
    """An instance of the dataclass `cls`, whose fields are exactly the keys of the mapping `content`."""
    values = mapping(content, where)
    kinds = get_type_hints(cls, include_extras=True)
    inside = f"{where}." if where else ""
    for key, value in values.items():
        known(key, kinds, f"{inside}{key}", value)
    for key in kinds:
        if key not in values:
            raise ConfigError(f"{inside}{key}", "missing", _describe(kinds[key]))
    return cls(**{key: _value(values[key], kind, f"{inside}{key}") for key, kind in kinds.items()})


def mapping(content: object, where: str) -> Mapping[str, Any]:
    """`content` if it is a mapping, else `ConfigError`."""
    if not isinstance(content, dict):
        raise ConfigError(where or "file", repr(content), "a mapping of names to values")
    return content


def known(key: object, allowed: Collection[str], where: str, value: object) -> None:
    """`ConfigError` unless `key` is one of `allowed`."""
    if key not in allowed:
        raise ConfigError(where, f"an unknown key (value {value!r})", f"one of {', '.join(allowed)}")


def _value(value: object, kind: Any, where: str) -> Any:
    """`value` converted to the annotation `kind` (list -> tuple, int -> float), or `ConfigError`."""
    base, rules = _split(kind)
    origin, inner = get_origin(base), get_args(base)
    if is_dataclass(base):
        return record(value, base, where)  # pyright: ignore[reportArgumentType]
    if origin is tuple and isinstance(value, list):
        checked: Any = tuple(_value(item, inner[0], f"{where}[{i}]") for i, item in enumerate(value))
    elif origin is dict and isinstance(value, dict):
        checked = {_value(k, inner[0], where): _value(v, inner[1], f"{where}.{k}") for k, v in value.items()}
    elif base is float and (type(value) is int or type(value) is float) and math.isfinite(value):
        checked = float(value)
    elif base is not float and type(value) is base:  # not isinstance: True is an int
        checked = value
    else:
        raise ConfigError(where, repr(value), _describe(kind) + _hint(value, base))
    for rule in rules:
        if not rule.allows(checked):
            raise ConfigError(where, repr(value), _describe(kind))
    return checked


def _split(kind: Any) -> tuple[Any, tuple[Rule, ...]]:
    """The type and the rules of an annotation."""
    return (get_args(kind)[0], kind.__metadata__) if get_origin(kind) is Annotated else (kind, ())


def _describe(kind: Any) -> str:
    """What is allowed, in words: `Annotated[int, Range(1)]` -> "an integer at least 1"."""
    base, rules = _split(kind)
    origin, inner = get_origin(base), get_args(base)
    if origin is tuple:
        what = f"a list, each {_describe(inner[0])}"
    elif origin is dict:
        what = f"a mapping of names, each to {_describe(inner[1])}"
    else:
        what = {int: "an integer", float: "a finite number", str: "a text"}.get(base, "a section")
    return " ".join([what, *map(str, rules)])


def _hint(value: object, base: Any) -> str:
    """YAML 1.1 reads 1e-3 as a text. This explains it where a text looks like a number."""
    try:
        number = base is float and isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        number = False
    return " (YAML wants a point and a sign in the exponent: 1.0e-3, not 1e-3; and no quotes)" if number else ""
