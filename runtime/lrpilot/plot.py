"""A picture of a training as its pilot saw it. Needs matplotlib, imported when a picture is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpilot.explain import is_alarm
from lrpilot.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RATE, LOSS, EVENT, PROBE = "#1f5fa8", "#b9b2a7", "#c8311c", "#e9edf2"
MARKERS = "Xvs^DP*h<>"  # one per kind of guard event
POINTS = 16  # drawn per interval, whose curve bends on a log axis


def draw(history: History, total_steps: int, ax: Axes | None = None) -> Axes:
    """Draw learning rate, loss, probe and guard events over the optimizer steps.

    The left axis shows the rate at and between decisions, and dotted the rate to come if the level is held. The right
    axis shows, pale, the mean batch loss of each interval. The legend stands above the axes.

    Args:
        history: decisions of a training.
        total_steps: number of optimizer steps of the whole training.
        ax: matplotlib axes to draw on; by default those of a new figure.

    Returns:
        The axes of the rate.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install matplotlib; or use history.array()") from error
    left: Any = ax if ax is not None else pyplot.subplots(figsize=(8, 4), layout="constrained")[1]
    right = left.twinx()
    # The rate lies over the loss; only the lower axes may have a background.
    left.set_zorder(right.get_zorder() + 1)
    left.patch.set_visible(False)
    right.patch.set_visible(True)
    rows = history.array()
    handles: list[Any] = []
    if len(rows) and rows["step"][0]:
        handles.append(right.axvspan(0, rows["step"][0], color=PROBE, lw=0, label="probe (rolled back)"))
    handles += _draw_rate(left, rows, total_steps) + _draw_loss(right, rows) + _draw_events(left, rows)
    left.set(xlabel="optimizer step", yscale="log", xlim=(0, total_steps))
    left.set_ylabel("learning rate", color=RATE)
    _limit(left, rows)
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    if handles:
        left.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize="small")
    return left


def _draw_rate(ax: Any, rows: np.ndarray, total_steps: int) -> list[Any]:
    if not len(rows):
        return []
    step, lr = rows["step"], rows["lr"]
    # Within an interval the envelope is linear: the rates at its ends say all.
    steps = np.linspace(step[:-1], step[1:], POINTS, axis=1).ravel()
    rates = np.linspace(lr[:-1], rows["lr_before"][1:], POINTS, axis=1).ravel()
    handles = ax.plot([*steps, step[-1]], [*rates, lr[-1]], color=RATE, lw=1.4, label="learning rate")
    ax.plot(step, lr, ".", color=RATE, ms=5)
    left = np.linspace(1, 0, 4 * POINTS, endpoint=False)  # share of the steps that follow the last decision
    rest, held = total_steps - left * (total_steps - step[-1]), lr[-1] * left
    settled = len(rows) > 1 and total_steps - step[-1] < 1.5 * (step[-1] - step[-2])  # no decision comes any more
    label = "_" if settled else "if the level is held"
    handles += ax.plot(rest, held, "-" if settled else ":", color=RATE, lw=1.4, label=label)
    return handles[: 1 if settled else 2]


def _draw_loss(ax: Any, rows: np.ndarray) -> list[Any]:
    """Interval means as steps over their intervals; an interval without a loss is a gap."""
    ax.yaxis.set_visible(False)
    if len(rows) < 2 or not np.isfinite(rows["telemetry_loss_mean"]).any():
        return []
    loss = np.where(np.isfinite(rows["telemetry_loss_mean"]), rows["telemetry_loss_mean"], np.nan)[1:]
    ax.yaxis.set_visible(True)
    ax.set_ylabel("loss", color="#857d70")
    if np.nanmin(loss) > 0 and np.nanmax(loss) > 10 * np.nanmin(loss):
        ax.set_yscale("log")
    return [ax.stairs(loss, rows["step"], baseline=None, color=LOSS, lw=1.4, label="mean loss")]


def _draw_events(ax: Any, rows: np.ndarray) -> list[Any]:
    """One marker per kind of event, on the rate that the guard left; the legend names and counts them."""
    handles: list[Any] = []
    for at, (event, count) in enumerate(Counter(e for e in rows["event"].tolist() if e and is_alarm(e)).items()):
        hit = rows[rows["event"] == event]
        marker = MARKERS[at % len(MARKERS)]
        label = event if count == 1 else f"{event} ({count})"
        handles += ax.plot(hit["step"], hit["lr"], marker, color=EVENT, mec="white", ms=8, label=label)
    return handles


def _limit(ax: Any, rows: np.ndarray) -> None:
    """Fit the rates at decisions: the envelope's end, at zero, would stretch a log axis."""
    rates = rows["lr"][(rows["lr"] > 0) & np.isfinite(rows["lr"])]
    if len(rates):
        ax.set_ylim(rates.min() / 3, rates.max() * 2)
