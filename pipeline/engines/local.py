"""Processes of this machine, each with its own pipe, so that none notices what happens to another.

A library's pool would not do: its workers share a queue and its locks, so one that is killed while it sends blocks the
rest.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from joblib import cpu_count

from pipeline.engines.slots import LostError, Slot, SlotEngine
from pipeline.engines.worker import ONE_THREAD, attempt, settle

SPAWN = multiprocessing.get_context("spawn")  # forked ones would inherit threads' locks, and CUDA


class Local(SlotEngine):
    """Processes of this machine."""

    def __init__(self, workers: int, device: str, time_limit: float | None) -> None:
        self.gpus = _gpus() if device == "cuda" else []
        if device == "cuda" and not self.gpus:
            raise ValueError("device: 'cuda', but there is no GPU here; want device: cpu")
        super().__init__(workers or len(self.gpus) or cpu_count(), time_limit)

    def slot(self, number: int) -> Slot:
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}
        return _Process(ONE_THREAD | gpu)

    def ready(self, slots: Collection[Slot], timeout: float | None) -> Collection[Slot]:
        pipes: Mapping[Any, Slot] = {slot.pipe: slot for slot in slots if isinstance(slot, _Process)}
        return [pipes[pipe] for pipe in connection.wait(pipes, timeout)]

    @staticmethod
    def dumps(work: Any) -> bytes:
        return pickle.dumps(work)


class _Process(Slot):
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def start(self) -> None:
        self.pipe, there = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(there,), daemon=True)
        with _environment(self.environment):
            self.process.start()
        there.close()  # so that the pipe ends with the process

    def put(self, work: bytes) -> None:
        with suppress(OSError):  # it has died; `take` will say so
            self.pipe.send_bytes(work)

    def take(self) -> bytes:
        try:
            return self.pipe.recv_bytes()
        except (EOFError, OSError):
            self.process.join(5)
            code = self.process.exitcode
            end = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
            raise LostError(f"its process died ({end})") from None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()


def _serve(pipe: Connection) -> None:
    """The worker: answer until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends its workers
    Thread(target=_end_with_driver, daemon=True).start()
    settle()
    pipe.send_bytes(b"")
    with suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(attempt(pipe.recv_bytes(), pickle.dumps))


def _end_with_driver() -> None:
    """End this worker when its driver dies. A killed driver cannot do it, and an item may take hours."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    connection.wait([driver.sentinel])
    os._exit(1)


def _gpus() -> list[str]:
    """The names that CUDA_VISIBLE_DEVICES has for the GPUs that this process sees."""
    import torch

    numbers = [str(i) for i in range(torch.cuda.device_count())]
    return os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(numbers)).split(",")[: len(numbers)]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a process that is started inside this context; `multiprocessing` has no parameter
    for it.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
