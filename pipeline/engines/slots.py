"""The loop that both engines share: give items to free processes, and handle processes that die or take too long."""

from __future__ import annotations

import pickle
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, Generic, NamedTuple

from pipeline.engines.outcomes import EngineError, Failure, Item, Outcome, Result
from pipeline.engines.worker import raised

ATTEMPTS = 3  # per item, as long as it is its process that ends


class LostError(Exception):
    """A process ended without a reply. The message says how."""


class Slot(ABC):
    """A place for one process, which runs one item at a time and is replaced when it ends."""

    free = False  # started, and without an item

    @abstractmethod
    def start(self) -> None:
        """Start a process. Its first reply is empty and says that it can take an item."""

    @abstractmethod
    def put(self, work: bytes) -> None:
        """Give the process a pickled (function, item)."""

    @abstractmethod
    def take(self) -> bytes:
        """The reply that has arrived. Raises `LostError`."""

    @abstractmethod
    def end(self) -> None:
        """End the process at once, whatever it is doing."""

    def restart(self) -> None:
        self.free = False
        self.end()
        self.start()


class SlotEngine(ABC):
    """An engine of `size` slots. A call reuses the processes of an earlier one and starts those that are missing."""

    def __init__(self, size: int, time_limit: float | None) -> None:
        self.size, self.time_limit = size, time_limit
        self._idle: list[Slot] = []  # without an item
        # All of them, reachable from here: the garbage collector may close the pipe of a slot that only a forgotten
        # call still has, and leave it looking open, before that call gives the slot back.
        self._started: list[Slot] = []
        weakref.finalize(self, _end, self._started)

    @abstractmethod
    def slot(self, number: int) -> Slot:
        """A new slot, without a process."""

    @abstractmethod
    def ready(self, slots: Collection[Slot], timeout: float | None) -> Collection[Slot]:
        """The slots whose process replied or ended. Waits for the first one, or for `timeout` seconds."""

    @staticmethod
    @abstractmethod
    def dumps(work: Any) -> bytes:
        """`pickle.dumps`, in the engine's own way."""

    def imap_unordered(
        self, fn: Callable[[Item], Result], items: Sequence[Item]
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine`. Raises `EngineError` if processes end while they start."""
        todo = deque((item, 1) for item in items)
        slots = self._claim(min(self.size, len(todo)))
        running: dict[Slot, _Job[Item]] = {}
        outcomes: list[Outcome[Item, Result]] = []
        stillborn = 0  # in a row
        try:
            while todo or running:
                for slot in slots:
                    if todo and slot.free:
                        item, attempt = todo.popleft()
                        slot.put(self.dumps((fn, item)))
                        slot.free, running[slot] = False, _Job(item, attempt, time.monotonic())
                yield from outcomes  # once all have work again: the caller may take its time
                outcomes.clear()
                for slot in self.ready([s for s in slots if not s.free], self._patience(running)):
                    job = running.pop(slot, None)
                    try:
                        reply = slot.take()
                    except LostError as death:
                        slot.restart()
                        if job is None:
                            stillborn += 1
                            if stillborn == ATTEMPTS:
                                raise EngineError(f"workers end while they start: {death}") from death
                        elif job.attempt < ATTEMPTS:
                            todo.append((job.item, job.attempt + 1))  # last: what killed it may be over by then
                        else:
                            outcomes.append(Outcome.failed(job.item, Failure("lost", f"{death} {ATTEMPTS} times")))
                        continue
                    slot.free, stillborn = True, 0
                    if job is not None:
                        outcomes.append(Outcome(job.item, *_read(reply)))
                for slot, job in list(running.items()):
                    if self.time_limit and time.monotonic() > job.start + self.time_limit:
                        del running[slot]
                        slot.restart()
                        message = f"no result within {self.time_limit:g} s"
                        outcomes.append(Outcome.failed(job.item, Failure("timeout", message)))
            yield from outcomes
        finally:
            self._idle += slots
            if todo or running:
                self._end_idle()

    def _claim(self, n: int) -> list[Slot]:
        slots = [self._idle.pop() for _ in range(min(n, len(self._idle)))]
        for number in range(len(slots), n):
            slots.append(self.slot(number))
            slots[-1].start()
            self._started.append(slots[-1])
        return slots

    def _end_idle(self) -> None:
        while self._idle:
            slot = self._idle.pop()
            if slot in self._started:  # else the engine itself has ended
                self._started.remove(slot)
                slot.end()

    def _patience(self, running: dict[Slot, _Job[Any]]) -> float | None:
        """Seconds until the first item is over its time, None for no limit."""
        if not self.time_limit or not running:
            return None
        return max(min(job.start for job in running.values()) + self.time_limit - time.monotonic(), 0) + 0.01


class _Job(NamedTuple, Generic[Item]):
    item: Item
    attempt: int
    start: float


def _read(reply: bytes) -> tuple[Any, Failure | None]:
    """A worker's reply: result and failure. A result that cannot be unpickled here is a failure, too."""
    try:
        return pickle.loads(reply)
    except Exception as error:
        return None, raised(error)


def _end(slots: list[Slot]) -> None:
    while slots:
        slots.pop().end()
