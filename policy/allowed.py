"""What parameters may be: annotations that pydantic checks. Numbers and texts are strict: neither True nor "1" is 1."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import core_schema

T = TypeVar("T")


@dataclass(frozen=True)
class OneOf:
    """A name in a registry of the code, or one of `others`.

    `registry` is a collection of names, or "package.module:attribute": such a collection or a function that returns
    one. That module is imported only when a value is checked, because it may need torch, and no stage depends on all
    of it.
    """

    registry: Collection[str]
    others: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """All names that are allowed."""
        found = pkgutil.resolve_name(self.registry) if isinstance(self.registry, str) else self.registry
        names: Any = found() if callable(found) else found
        return (*names, *self.others)

    def check(self, name: str) -> str:
        """`name`, or ValueError if it is not allowed."""
        if name not in self.names():
            raise ValueError(f"{name!r} is not one of {', '.join(self.names())}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(schema) | {"enum": [*self.names()]}


def _unrepeated(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("repetition")
    return values


Natural = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Several = Annotated[int, Field(strict=True, ge=2)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Positive = Annotated[float, Field(strict=True, gt=0)]
NonNegative = Annotated[float, Field(strict=True, ge=0)]
PositiveShare = Annotated[float, Field(strict=True, gt=0, le=1)]
Dropout = Annotated[float, Field(strict=True, ge=0, le=0.9)]
Text = Annotated[str, Field(strict=True)]
Name = Annotated[str, Field(strict=True, min_length=1)]
Device = Literal["cpu", "cuda"]
AnyDevice = Literal["auto", "cpu", "cuda"]  # see `device`
Distinct = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_unrepeated)]  # not empty, no repetition


def device(name: str) -> str:
    """cpu or cuda, as an `AnyDevice` says: auto is cuda where there is one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
