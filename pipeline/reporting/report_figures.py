"""The report's figures, in the style of `lrpilot.reports.style`. The policy has one strong colour everywhere.

Equal input gives equal bytes. For the page a figure is SVG whose colours are the page's, light or dark; elsewhere it is
a PNG on white.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import LogLocator
from PIL import Image

from lrpilot.reports.style import CONTROL, OTHER, PLAIN, POLICY, RC
from pipeline.paths import BLIND_AGENT
from pipeline.reporting import result_keys
from pipeline.reporting.report_data import TaskCurves
from pipeline.reporting.result_keys import kind_of
from pipeline.reporting.scores import NAMES, Score

WIDTH = 5.6  # inches
PANEL = 3.4, 2.4  # inches, of one panel alone
INK = "#4d4d4d"
COLOURS = {
    "policy": POLICY, "baseline": PLAIN, "textbook": INK, "rival": OTHER, "control": CONTROL, "oracle": OTHER,
}  # fmt: skip
KINDS = {
    "policy": "policy", "baseline": "schedules", "textbook": "textbook", "rival": "rivals", "control": "controls",
}  # fmt: skip
SHAPES = {"policy": "o", "baseline": "s", "textbook": "D", "rival": "o", "control": "^"}  # by kind
# What a page calls these colours: it has them lighter where it is dark.
VARIABLES = {POLICY: "var(--policy)", OTHER: "var(--other)", CONTROL: "var(--control)", INK: "currentColor"}
STYLE: dict[Any, Any] = RC | {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8,
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.edgecolor": INK, "xtick.labelsize": 8, "ytick.labelsize": 8, "figure.constrained_layout.use": True,
    "svg.hashsalt": "lrpilot", "savefig.transparent": True,
}  # fmt: skip
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))
MARKS = ("o", "D", "s", "^", "v", "P", "X")
COSINE = "baseline.cosine"  # the schedule that most people take


def svg(figure: Figure, name: str) -> str:
    """The figure as an element of a page that has the colours of `VARIABLES`; `name` is of this figure alone."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text[text.index("<svg") :])
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def write_png(figure: Figure, path: Path) -> None:
    """The figure on a white background in 256 colours, a third of the bytes, for use outside the report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(drawn, dpi=150, transparent=False, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


@mpl.rc_context(STYLE)
def panel(draw: Callable[..., None], *content: Any) -> Figure:
    """One panel alone, for a page that arranges them by its width."""
    figure = _figure(PANEL[1], PANEL[0])
    draw(figure.subplots(), *content)
    return figure


def _figure(height: float, width: float = WIDTH) -> Figure:
    return Figure(figsize=(width, height))


def draw_rates(ax: Axes, curves: TaskCurves) -> None:
    """Learning rate over progress on one task: the policy's, single seeds thin, the oracle's and the textbook's."""
    x = np.linspace(0, 100, len(curves.oracle))
    for run in curves.policy:
        ax.plot(x, run, color=POLICY, lw=0.7, alpha=0.45)
    mean = 10 ** np.log10(np.maximum(curves.policy, 1e-12)).mean(axis=0)
    ax.plot(x, mean, color=POLICY, lw=2.2, label="policy (thin: single seeds)")
    ax.plot(x, curves.oracle, color=OTHER, lw=1.5, label="best of the grid")
    ax.plot(x, curves.textbook, color=INK, lw=1.5, ls="--", label="textbook default")
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    top = max(curves.policy.max(), curves.oracle.max(), curves.textbook.max())
    # The ends of decaying schedules go to zero and would squeeze everything else.
    ax.set_ylim(min(top / 1e5, curves.oracle.max() / 1e2), top * 2)
    ax.set_xlim(0, 100)
    ax.set_xlabel("% of the training")
    ax.set_ylabel("learning rate")


@mpl.rc_context(STYLE)
def rate_curves(tasks: Sequence[TaskCurves]) -> Figure:
    """Learning rate over progress on a handful of tasks."""
    columns = min(2, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = _figure(0.4 + 2.1 * rows)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for ax, curves in zip(axes.flat, tasks, strict=False):
        draw_rates(ax, curves)
        ax.set_xlabel(ax.get_xlabel() if ax in axes[-1] else "")
        ax.set_ylabel(ax.get_ylabel() if ax in axes[:, 0] else "")
        subject, _, settings = curves.label.partition(" · ")
        ax.set_title(f"{subject}\n{settings} · regret {curves.regret:.2f}", fontsize=7)
    for ax in axes.flat[len(tasks) :]:
        ax.set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def draw_sensitivity(ax: Axes, schedules: pd.DataFrame, policy: float, limits: tuple[float, float]) -> None:
    """Final regret of schedules against their initial rate, and of the policy, which has none."""
    for group in sorted(schedules, key=lambda name: name == COSINE):
        cosine = group == COSINE
        label = NAMES[COSINE] if cosine else "other schedules"
        ax.plot(schedules.index, schedules[group], color=OTHER if cosine else PLAIN, lw=2 if cosine else 1, label=label)
    ax.axhline(policy, color=POLICY, lw=2.4, label="policy")
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=5))
    ax.set_ylim(*limits)
    ax.set_xlabel("initial learning rate")
    ax.set_ylabel("mean normalised regret")


def regret_limits(table: Mapping[str, tuple[pd.DataFrame, float]]) -> tuple[float, float]:
    """Of an axis that all panels of a sensitivity share."""
    values = [v for schedules, policy in table.values() for v in (*schedules.to_numpy().ravel(), policy)]
    return min(0.0, float(np.nanmin(values))) - 0.05, float(np.nanmax(values)) + 0.05


@mpl.rc_context(STYLE)
def sensitivity(table: Mapping[str, tuple[pd.DataFrame, float]]) -> Figure:
    """Final regret against the initial learning rate, by optimizer."""
    figure = _figure(3.3)
    _draw_sensitivities(figure, table)
    return figure


def _draw_sensitivities(figure: FigureBase, table: Mapping[str, tuple[pd.DataFrame, float]]) -> None:
    axes, limits = figure.subplots(1, len(table), sharey=True, squeeze=False)[0], regret_limits(table)
    for ax, (optimizer, (schedules, policy)) in zip(axes, table.items(), strict=True):
        draw_sensitivity(ax, schedules, policy, limits)
        ax.label_outer()
        ax.set_title(optimizer)
    handles, labels = axes[0].get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=3)


def draw_losses(ax: Axes, curve: pd.DataFrame) -> None:
    """One loss of the agents during training; columns agent, step, loss."""
    for agent, part in curve.groupby("agent", sort=True):
        blind = str(agent).startswith(BLIND_AGENT)
        ax.plot(part.step / 1000, part.loss, color=CONTROL if blind else POLICY, ls="--" if blind else "-")
    ax.set_xlabel("thousand gradient steps")
    ax.set_ylabel("loss")


@mpl.rc_context(STYLE)
def families(table: pd.DataFrame) -> Figure:
    """Mean regret (families, groups), with one mark for each group."""
    figure = _figure(1.2 + 0.3 * len(table))
    ax = figure.subplots()
    for group, mark in zip(table, cycle(MARKS), strict=False):
        mine = group == result_keys.POLICY
        ax.plot(
            table[group], range(len(table)), mark, color=COLOURS[kind_of(str(group))], label=NAMES[str(group)],
            ms=8 if mine else 5, alpha=1 if mine else 0.8, zorder=3 if mine else 2,
        )  # fmt: skip
    ax.set_yticks(range(len(table)), table.index)
    ax.invert_yaxis()
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
        mine = group == result_keys.POLICY
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
def picture(table: Sequence[Score], rates: Mapping[str, tuple[pd.DataFrame, float]]) -> Figure:
    """For the README: regret of all methods, and the final regret against the initial rate."""
    figure = _figure(max(4.6, 1.2 + 0.17 * len(table)), width=10)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.05, 1))[0]
    _draw_regret(left, table)
    _draw_sensitivities(right, rates)
    return figure


def _draw_regret(figure: FigureBase, table: Sequence[Score]) -> None:
    """Mean regret of every method with its interval, the best on top."""
    ax = figure.subplots()
    for y, score in enumerate(table):
        colour, mine = COLOURS[score.kind], score.group == result_keys.POLICY
        ax.plot([score.low, score.high], [y, y], color=colour, lw=4 if mine else 2, alpha=1 if mine else 0.8)
        ax.plot(score.mean, y, SHAPES[score.kind], color=colour, ms=8 if mine else 5)
        ax.annotate(
            f"{score.mean:.2f}", (max(score.high, score.mean), y), (6, 0), textcoords="offset points", va="center",
            color=colour if mine else INK, fontsize=8, weight="bold" if mine else "normal",
        )  # fmt: skip
    ax.set_yticks(range(len(table)), [s.name for s in table])
    for label, score in zip(ax.get_yticklabels(), table, strict=True):
        label.set_color(COLOURS[score.kind])
        label.set_fontweight("bold" if score.group == result_keys.POLICY else "normal")
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.axvline(0, color=INK, lw=0.8)
    ax.axvline(1, color=INK, lw=0.8, ls=":")
    ax.set_xlabel("mean normalised regret")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.1, y=0.03)
    kinds = [k for k in KINDS if any(s.kind == k for s in table)]
    handles = [ax.plot([], [], SHAPES[k], color=COLOURS[k], ms=5, label=KINDS[k])[0] for k in kinds]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(kinds), handletextpad=0.2)
