"""Ready values for `PilotLR(log=...)`, which is any callable log(metrics, step).

W&B's `run.log` and MLflow's `log_metrics` are such callables already.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lrpilot.history import METRICS

Log = Callable[[dict[str, float], int], Any]


class Writer(Protocol):
    """The part of torch.utils.tensorboard.SummaryWriter (and tensorboardX's) that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any: ...
    def flush(self) -> Any: ...


def tensorboard(writer: Writer) -> Log:
    """One scalar per metric; flushed at every decision, so that the curves of a killed training are whole."""

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log


def several(*logs: Log) -> Log:
    """All of `logs`, in order. One that fails keeps none from its turn; ExceptionGroup says afterwards which."""

    def log(metrics: dict[str, float], step: int) -> None:
        errors: list[Exception] = []
        for each in logs:
            try:
                each(metrics, step)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("; ".join(map(str, errors)), errors)

    return log


def csv(path: str | os.PathLike[str]) -> Log:
    """Append a row per decision to a CSV file: step, then METRICS, empty where there is none.

    A row is on disk before the training goes on. An existing file of the same columns is continued; what a
    training resumed from a checkpoint does again is written again, and a step's last row counts.
    Raises ValueError for a file of other columns, OSError for one that cannot be written.
    """
    file = Path(path)
    header = ",".join(("step", *METRICS))
    with file.open("a+", encoding="utf-8") as opened:
        opened.seek(0)
        text = opened.read()
        if not text:
            opened.write(header + "\n")
        elif text.partition("\n")[0] != header:
            raise ValueError(f"{file}: its first line is not {header!r}; give another path")
        elif not text.endswith("\n"):  # a row cut short: end it, lest the next be joined to it
            opened.write("\n")

    def log(metrics: dict[str, float], step: int) -> None:
        cells = [str(step), *(repr(metrics[name]) if name in metrics else "" for name in METRICS)]
        with file.open("a", encoding="utf-8") as opened:
            opened.write(",".join(cells) + "\n")

    return log
