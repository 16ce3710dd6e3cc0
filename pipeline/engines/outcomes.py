"""The protocol of an engine, and the outcome of each item."""

from __future__ import annotations

import reprlib
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


class EngineError(RuntimeError):
    """The work cannot continue: an item has no result, or processes do not start."""


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    kind: str  # "raised", "timeout" or "lost" (its process or node died, every time it was tried)
    message: str  # one line for people
    error: BaseException | None = field(default=None, compare=False, repr=False)  # raised there; traceback in its notes


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """An item with its result, or with the reason why there is none."""

    item: Item
    result: Result  # None where there is a failure; a result may be None, too
    failure: Failure | None = None

    @classmethod
    def failed(cls, item: Item, failure: Failure) -> Outcome[Item, Any]:
        return Outcome(item, None, failure)


class Engine(Protocol):
    """Runs a function on many items, each in a process that has nothing else to do."""

    def imap_unordered(
        self, fn: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """One outcome per item, in the order of completion. Function, items and results must be picklable.

        An item whose process dies is tried three times in all. One that raises or takes too long is not tried again.
        Closing the generator leaves no process behind.
        """
        ...


def results(engine: Engine, fn: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results alone, for a caller that needs every one. The first failure raises `EngineError`, from its error."""
    for outcome in engine.imap_unordered(fn, items):
        if outcome.failure is not None:
            raise EngineError(f"{reprlib.repr(outcome.item)}: {outcome.failure.message}") from outcome.failure.error
        yield outcome.result


def progress(
    results: Iterator[Result], total: int, what: str, size: Callable[[Result], float], unit: str
) -> Iterator[Result]:
    """Pass `results` on and show what is done, the rate and the time left: a bar on a terminal, else a line now and
    then.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=unit) as bar:
            for result in results:
                bar.update(size(result))
                yield result
        return
    start = shown = time.monotonic()
    done = 0.0
    for result in results:
        yield result
        done += size(result)
        now = time.monotonic()
        if done and (now - shown > 15 or done >= total):
            rate, shown = done / max(now - start, 1e-9), now
            print(
                f"{what}: {done:.0f}/{total} {unit}, {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left",
                flush=True,
            )
