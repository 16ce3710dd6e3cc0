"""Ready-made values for `PilotLR(log=...)`, which takes any callable log(metrics, step).

W&B's `run.log` and MLflow's `log_metrics` are such callables already.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lrpilot.reports.history import METRICS

Log = Callable[[dict[str, float], int], Any]


class Writer(Protocol):
    """The part of torch.utils.tensorboard.SummaryWriter (and tensorboardX's) that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any: ...
    def flush(self) -> Any: ...


def tensorboard(writer: Writer) -> Log:
    """Log to TensorBoard: one scalar per metric, flushed at every call, so that a killed training loses nothing.

    Args:
        writer: a `torch.utils.tensorboard.SummaryWriter`, or tensorboardX's.

    Returns:
        A value for `PilotLR(log=...)`.
    """

    def log(metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return log


def several(*logs: Log) -> Log:
    """Call several logs in order. If one fails, the others still run.

    Args:
        logs: values for `PilotLR(log=...)`.

    Returns:
        A value for `PilotLR(log=...)`. It raises ExceptionGroup with the errors of all logs that failed.
    """

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
    """Append a row per decision and per step of the probe to a CSV file.

    The columns are `step` and the metrics; a missing value is empty. A row is on disk before the training goes on. An
    existing file of the same columns is continued. A training that resumes from a checkpoint writes some rows again;
    the last row of a step counts.

    Args:
        path: the file; its folder must exist.

    Returns:
        A value for `PilotLR(log=...)`.

    Raises:
        ValueError: the file has other columns.
        OSError: the file cannot be written.
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
