"""The report's figures. The policy has the same strong colour everywhere. Equal input gives equal bytes.

Backgrounds are transparent and texts mid-grey, so the figures suit a light and a dark page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from pipeline.paths import BLIND_AGENT
from pipeline.reporting.report_data import TaskCurves
from pipeline.reporting.result_keys import POLICY, kind_of
from pipeline.reporting.scores import NAMES, Score

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

WIDTH = 5.6  # inches
INK = "#757575"
COLOURS = {
    "policy": "#e8590c", "baseline": "#6c757d", "textbook": "#a07400", "rival": "#1c8a94", "control": "#9467bd",
    "oracle": "#2f6fb2",
}  # fmt: skip
KINDS = {
    "policy": "policy", "baseline": "schedules", "textbook": "textbook", "rival": "rivals", "control": "controls",
}  # fmt: skip
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.edgecolor": INK, "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.frameon": False, "lines.solid_capstyle": "round",
    "figure.constrained_layout.use": True, "svg.hashsalt": "lrpilot", "savefig.transparent": True,
}  # fmt: skip
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))
MARKS = ("o", "D", "s", "^", "v", "P", "X")


def data_uri(figure: Figure) -> str:
    """The figure as SVG in a data: URI."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_png(figure: Figure, path: Path) -> None:
    """The figure on a white background, for use outside the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        # The name of the software would hold its version, and so change the bytes with every upgrade.
        figure.savefig(path, dpi=150, transparent=False, facecolor="white", metadata={"Software": None})


def _figure(height: float, width: float = WIDTH) -> Figure:
    return Figure(figsize=(width, height))


@mpl.rc_context(STYLE)
def regret(table: Sequence[Score]) -> Figure:
    """Mean regret of every method with its interval, the best on top."""
    figure = _figure(1.0 + 0.26 * len(table))
    _draw_regret(figure, table)
    return figure


def _draw_regret(figure: FigureBase, table: Sequence[Score]) -> None:
    ax = figure.subplots()
    for y, score in enumerate(table):
        colour, mine = COLOURS[score.kind], score.group == POLICY
        ax.plot([score.low, score.high], [y, y], color=colour, lw=4 if mine else 2, alpha=1 if mine else 0.8)
        ax.plot(score.mean, y, "o", color=colour, ms=8 if mine else 5)
        ax.annotate(
            f"{score.mean:.2f}", (max(score.high, score.mean), y), (6, 0), textcoords="offset points", va="center",
            color=colour if mine else INK, fontsize=8, weight="bold" if mine else "normal",
        )  # fmt: skip
    ax.set_yticks(range(len(table)), [s.name for s in table])
    for label, score in zip(ax.get_yticklabels(), table, strict=True):
        label.set_color(COLOURS[score.kind])
        label.set_fontweight("bold" if score.group == POLICY else "normal")
    ax.invert_yaxis()
    ax.axvline(0, color=INK, lw=0.6)
    ax.axvline(1, color=INK, lw=0.6, ls=":")
    ax.set_xlabel("mean normalised regret")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.1, y=0.03)
    kinds = [k for k in KINDS if any(s.kind == k for s in table)]
    handles = [ax.plot([], [], "o", color=COLOURS[k], ms=5, label=KINDS[k])[0] for k in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), handletextpad=0.2)


@mpl.rc_context(STYLE)
def rate_curves(tasks: Sequence[TaskCurves]) -> Figure:
    """Learning rate over progress on a handful of tasks."""
    columns = min(2, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = _figure(0.4 + 2.0 * rows)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for ax, curves in zip(axes.flat, tasks, strict=False):
        x = np.linspace(0, 100, len(curves.oracle))
        for run in curves.policy:
            ax.plot(x, run, color=COLOURS["policy"], lw=0.7, alpha=0.45)
        mean = 10 ** np.log10(np.maximum(curves.policy, 1e-12)).mean(axis=0)
        (mine,) = ax.plot(x, mean, color=COLOURS["policy"], lw=2)
        (oracle,) = ax.plot(x, curves.oracle, color=COLOURS["oracle"], lw=1.4)
        (textbook,) = ax.plot(x, curves.textbook, color=COLOURS["textbook"], lw=1.4, ls="--")
        ax.set_yscale("log")
        top = max(curves.policy.max(), curves.oracle.max(), curves.textbook.max())
        # The ends of decaying schedules go to zero and would squeeze everything else.
        ax.set_ylim(min(top / 1e5, curves.oracle.max() / 1e2), top * 2)
        subject, _, rest = curves.label.partition(" · ")
        ax.set_title(f"{subject}\n{rest} · regret {curves.regret:.2f}", fontsize=7)
        if ax in axes[-1]:
            ax.set_xlabel("% of the training")
    for ax in axes.flat[len(tasks) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("learning rate")
    names = ["policy (thin: single seeds)", "best of the grid", "textbook default"]
    figure.legend([mine, oracle, textbook], names, loc="outside lower center", ncols=3)
    return figure


@mpl.rc_context(STYLE)
def sensitivity(table: Mapping[str, tuple[pd.DataFrame, float]]) -> Figure:
    """Final regret against the initial learning rate, by optimizer."""
    figure = _figure(3.3)
    _draw_sensitivity(figure, table)
    return figure


def _draw_sensitivity(figure: FigureBase, table: Mapping[str, tuple[pd.DataFrame, float]]) -> None:
    axes = figure.subplots(1, len(table), sharey=True, squeeze=False)[0]
    values = [v for schedules, policy in table.values() for v in (*schedules.to_numpy().ravel(), policy)]
    for ax, (optimizer, (schedules, policy)) in zip(axes, table.items(), strict=True):
        for group, dashes in zip(schedules, cycle(DASHES), strict=False):
            label = NAMES[str(group)]
            ax.plot(schedules.index, schedules[group], ls=dashes, color=COLOURS["baseline"], lw=1.1, label=label)
        ax.axhline(policy, color=COLOURS["policy"], lw=2.4, label="policy")
        ax.axhline(0, color=INK, lw=0.6)
        ax.set_xscale("log")
        ax.set_ylim(min(0.0, np.nanmin(values)) - 0.05, np.nanmax(values) + 0.05)
        ax.set_title(optimizer)
        ax.set_xlabel("initial LR")
    axes[0].set_ylabel("mean normalised regret")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


@mpl.rc_context(STYLE)
def families(table: pd.DataFrame) -> Figure:
    """Mean regret (families, groups), with one mark for each group."""
    figure = _figure(1.2 + 0.3 * len(table))
    ax = figure.subplots()
    for group, mark in zip(table, cycle(MARKS), strict=False):
        mine = group == POLICY
        ax.plot(
            table[group], range(len(table)), mark, color=COLOURS[kind_of(str(group))], label=NAMES[str(group)],
            ms=8 if mine else 5, alpha=1 if mine else 0.8, zorder=3 if mine else 2,
        )  # fmt: skip
    ax.set_yticks(range(len(table)), table.index)
    ax.invert_yaxis()
    ax.grid(axis="y", lw=0.3)
    ax.axvline(0, color=INK, lw=0.6)
    ax.set_xlabel("mean normalised regret")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def profiles(thresholds: np.ndarray, shares: Mapping[str, np.ndarray]) -> Figure:
    """Share of runs whose regret is at most the value on the axis, with one line for each group."""
    figure = _figure(3.4)
    ax = figure.subplots()
    for (group, share), dashes in zip(shares.items(), cycle(DASHES), strict=False):
        mine = group == POLICY
        ax.plot(
            thresholds, 100 * share, color=COLOURS[kind_of(group)], ls="-" if mine else dashes, lw=2.4 if mine else 1.2,
            label=NAMES[group],
        )  # fmt: skip
    ax.set_xlabel("normalised regret")
    ax.set_ylabel("% of the trainings at most there")
    ax.set_ylim(0, 100)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def learning_curves(curve: pd.DataFrame) -> Figure:
    """Losses of the agents during training; columns agent, step, name, loss."""
    names = sorted(curve.name.unique())
    figure = _figure(2.6)
    axes = figure.subplots(1, len(names), sharex=True, squeeze=False)
    agents = sorted(curve.agent.unique())
    for ax, name in zip(axes[0], names, strict=True):
        for agent in agents:
            part = curve[(curve.name == name) & (curve.agent == agent)]
            blind = str(agent).startswith(BLIND_AGENT)
            colour = COLOURS["control" if blind else "policy"]
            ax.plot(part.step / 1000, part.loss, color=colour, lw=1.2, ls="--" if blind else "-")
        ax.set_title(name.replace("_", " "))
        ax.set_xlabel("thousand steps")
    lines = [axes[0, 0].plot([], [], color=COLOURS[k], ls=s)[0] for k, s in (("policy", "-"), ("control", "--"))]
    figure.legend(lines, ["agents of the policy", "state-blind control"], loc="outside lower center", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def picture(table: Sequence[Score], rates: Mapping[str, tuple[pd.DataFrame, float]]) -> Figure:
    """For the README: regret of all methods, and the final regret against the initial rate."""
    figure = _figure(4.6, width=10)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.05, 1))[0]
    _draw_regret(left, table)
    _draw_sensitivity(right, rates)
    return figure
