"""From plain YAML content to frozen dataclasses, whose annotations pydantic checks.

A fault is one line: its place, its value, what is allowed. Numbers and texts have annotations of `policy.allowed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

T = TypeVar("T")
TYPES = {"integer": "an integer", "number": "a finite number", "string": "a text"}
UNKNOWN = ("unexpected_keyword_argument", "invalid_key")  # pydantic's kinds of errors about keys that no dataclass has


class ConfigError(ValueError):
    """A parameter that cannot be used. The message gives its place, its value and what is allowed."""

    def __init__(self, where: str, content: str, want: str) -> None:
        super().__init__(f"parameter {where} is {content}, want {want}")


class FileError(ConfigError):
    """A file of parameters that cannot be used, and why."""

    def __init__(self, path: object, why: object) -> None:
        ValueError.__init__(self, f"{path}: {why}")


def parse(content: object, cls: type[T]) -> T:
    """An instance of the dataclass `cls`, whose fields are exactly the keys of the mapping `content`; else
    `ConfigError`.
    """
    adapter = TypeAdapter(with_config(ConfigDict(extra="forbid", allow_inf_nan=False))(cls))
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        raise _fault(error, adapter.json_schema()) from None


def _fault(error: ValidationError, schema: Mapping[str, Any]) -> ConfigError:
    """The first unknown key, which often is a missing one misspelt; if there is none, the first fault."""
    first = min(error.errors(include_url=False), key=lambda fault: fault["type"] not in UNKNOWN)
    kind, place, value = first["type"], first["loc"], first["input"]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # of values that do not go together
        return cause
    of_key = place[-1:] == ("[key]",)
    place = place[:-2] if of_key else place
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "file"
    if kind in UNKNOWN:
        known = _at(schema, place[:-1])["properties"]
        return ConfigError(where, f"an unknown key (value {value!r})", f"one of {', '.join(known)}")
    allowed = _at(schema, place)
    want = _words({"type": "string"} | allowed["propertyNames"] if of_key else allowed)
    content = "missing" if kind == "missing" else repr(value)
    return ConfigError(where, content, want + (_hint(value) if kind == "float_type" else ""))


def _at(schema: Mapping[str, Any], place: tuple[int | str, ...]) -> Mapping[str, Any]:
    """The part of a JSON schema that is about the value at `place`."""
    part = schema
    for key in place:
        inside = part["items"] if isinstance(key, int) else part.get("properties", {}).get(key)
        part = inside or part["additionalProperties"]
        part = schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return part


def _words(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows: {"type": "integer", "minimum": 1} -> "an integer at least 1"."""
    words = TYPES.get(schema.get("type", ""), "a mapping of names to values")
    if "items" in schema:
        words = f"a list, each {_words(schema['items'])}"
    elif isinstance(schema.get("additionalProperties"), dict):
        words = f"a mapping of names, each to {_words(schema['additionalProperties'])}"
    above, low, high = (schema.get(name) for name in ("exclusiveMinimum", "minimum", "maximum"))
    if high is not None and (above, low) != (None, None):
        words += f" in {f'[{low:g}' if above is None else f'({above:g}'}, {high:g}]"
    else:
        bounds = {"above": above, "at least": low, "at most": high}
        words += "".join(f" {name} {bound:g}" for name, bound in bounds.items() if bound is not None)
    if "enum" in schema:
        words += f" that is one of {', '.join(schema['enum'])}"
    if "minItems" in schema:
        words += " (not empty, no repetition)"
    return words + (" (not empty)" if {"minLength", "minProperties"} & schema.keys() else "")


def _hint(value: object) -> str:
    """YAML 1.1 reads 1e-3 as a text. This explains it where a text looks like a number."""
    try:
        number = isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        number = False
    return " (YAML wants a point and a sign in the exponent: 1.0e-3, not 1e-3; and no quotes)" if number else ""
