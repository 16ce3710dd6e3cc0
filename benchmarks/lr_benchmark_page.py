"""The benchmark's page: tables and pictures of the figures that `benchmarks.lr_benchmark` measures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import aggregates, oracle
from pipeline.reporting import markdown, report_data, report_figures, result_keys, scores, verdict
from pipeline.reporting.result_keys import POLICY, ResultKey

SPLIT = "heldout"
PROFILED = (  # methods in the figures, beside the best schedule
    POLICY, scores.VALIDATED, scores.HOLD, scores.CALIBRATED, "rival.finder_steepest", "rival.prodigy_cosine",
    "rival.schedule_free",
)  # fmt: skip
UNTUNED = ("textbook.default", "textbook.wsd", "rival.schedule_free_high")  # what people use without tuning
THRESHOLDS = np.linspace(-0.1, 1.0, 111)


def render(r: Mapping[str, Any]) -> str:
    """Markdown: a row of each method by its mean, the same by regime, and comparisons of the policy."""
    parts = [_methods(r), regimes(r, SPLIT), _textbook(r), _untuned(r), _sooner(r), _summary(r)]
    return "\n\n".join(part for part in parts if part)


def _methods(r: Mapping[str, Any]) -> str:
    head = ["method", "mean regret", "95 %", "IQM", "policy minus it (95 %)", "policy wins", "worst family",
            "best checkpoint", "error", "time"]  # fmt: skip
    rows = []
    for s in scores.listed(scores.table(r, SPLIT)):
        statistics = ("worst_family", "best_regret", "error_regret")
        rest = (r.get(ResultKey(SPLIT, s.group, statistic).encode()) for statistic in statistics)
        wins = "–" if s.wins is None else f"{100 * s.wins:.0f} %"
        name = s.name if s.group in scores.NAMES else f"`{s.name}`"
        row = [name, verdict.number(s.mean), verdict.interval(s.low, s.high), verdict.number(s.iqm), verdict.gap(s)]
        ratio = r.get("pilot.time") if s.group == POLICY else r.get(f"{s.group.partition('.')[2]}.time")
        row += [wins, *(verdict.number(value, 2) for value in rest), f"×{ratio:.2f}" if ratio else "–"]
        rows.append([f"**{row[0]}**", *row[1:]] if s.group == POLICY else row)
    return markdown.table(head, rows)


def regimes(r: Mapping[str, Any], split: str) -> str:
    """A column for each regime: mean regret, and the policy's minus it."""
    parts = scores.shares(r, split)
    rows = []
    for s in scores.listed(scores.table(r, split)):
        name = s.name if s.group in scores.NAMES else f"`{s.name}`"
        cells = [f"**{name}**" if s.group == POLICY else name, verdict.number(s.mean)]
        for of in (s.regimes[regime] for regime in parts):
            minus = "" if of.gap is None else f"; {verdict.difference(of.gap, of.gap_low, of.gap_high)}"
            cells.append(verdict.number(of.mean) + minus)
        rows.append(cells)
    titles = [f"{title} ({100 * share:.0f} %)" for title, count, share in parts.values()]
    return markdown.table(["mean regret; policy minus it (95 %)", "all", *titles], rows) if parts else ""


def _textbook(r: Mapping[str, Any]) -> str:
    """Schedules from the textbook's rate."""
    groups = {g: v for g, v in result_keys.groups(r)[SPLIT].items() if result_keys.kind_of(g) == "textbook"}
    rows = []
    for group in sorted(groups, key=lambda g: groups[g]["mean"]):
        of, name = groups[group], {**scores.SCHEDULES, "default": "the task's own default"}[group.partition(".")[2]]
        minus = verdict.difference(*(of.get(f"policy_minus{end}") for end in ("", "_low", "_high")))
        rows.append([name, verdict.number(of["mean"]), minus, verdict.percent(of["policy_wins"])])
    head = ["schedule at the textbook's rate", "mean regret", "policy minus it (95 %)", "policy wins"]
    return markdown.table(head, rows)


def _untuned(r: Mapping[str, Any]) -> str:
    """The policy in ordinary trainings, beside each of `UNTUNED`."""
    rows = []
    for group in (g for g in UNTUNED if f"ordinary.{g}.within" in r):
        within, most, reached, steps = (
            r.get(f"ordinary.{group}.{figure}") for figure in ("within", "most", "reached", "steps")
        )
        shares = ["–" if share is None else verdict.percent(share) for share in (within, reached, steps)]
        rows.append([scores.NAMES[group], shares[0], verdict.number(most, sign=True), *shares[1:]])
    head = ["the policy in ordinary trainings, beside", "better, or worse by at most 0.01", "worst task, minus it",
            "reaches its final loss", "median share of the steps until then"]  # fmt: skip
    return markdown.table(head, rows) if rows else ""


def _sooner(r: Mapping[str, Any]) -> str:
    """How soon methods reach the final loss of the best constant rate."""
    rows = []
    for group in (g for g in PROFILED if f"constant.{g}.reached" in r):
        steps = r.get(f"constant.{group}.steps")
        reached = f"{100 * r[f'constant.{group}.reached']:.0f} %"
        rows.append([scores.NAMES[group], reached, f"{100 * steps:.0f} %" if steps else "–"])
    head = ["method", "reaches the best constant rate's loss", "median share of its steps until then"]
    return markdown.table(head, rows) if rows else ""


def _summary(r: Mapping[str, Any]) -> str:
    groups = result_keys.groups(r)[SPLIT]
    spread = {
        group: groups[group]["sensitivity"]
        for group in scores.NAMES
        if result_keys.kind_of(group) == "baseline" and "sensitivity" in groups.get(group, {})
    }
    steadiest = min(spread, key=lambda group: spread[group])
    worth = ""
    if "worth" in r:
        trials = f"{r['worth']} trials" if r["worth"] else "more trials than the grid has"
        worth = f"Random search over schedules and rates of the grid needs {trials} to be as good as the policy. "
    return (
        f"{scores.scope(r, SPLIT)}. Benchmark `{r['benchmark']}`, policy `{r['policy'][:12]}`. {worth}"
        f"Of all its {r['trainings']} trainings, in all modes together, {r['diverged']} diverged. Averaged over tasks, "
        f"the worst initial rate has a regret {verdict.number(spread[steadiest], 2)} higher than the best one under "
        f"the steadiest schedule, {scores.NAMES[steadiest]}. The policy does not use the initial rate. "
        f"Measured with torch {r['torch']}."
    )


def draw(r: Mapping[str, Any], rows: pd.DataFrame, folder: Path) -> None:
    """The page's figures."""
    judged, runs = aggregates.judged(rows), aggregates.with_groups(rows)
    baseline = scores.best(scores.table(r, SPLIT), "baseline")
    groups = [*PROFILED, *([baseline.group] if baseline else [])]
    of_families = report_data.by_family(judged, groups)
    pictures = {
        "families": report_figures.families(of_families),
        "profiles": report_figures.profiles(THRESHOLDS, report_data.profiles(judged, groups, THRESHOLDS)),
        "sensitivity": report_figures.sensitivity(report_data.sensitivity(oracle.whole_grid(runs), runs)),
        "rates": report_figures.rate_curves(report_data.task_curves(runs)),
    }
    for name, figure in pictures.items():
        report_figures.write_png(figure, folder / f"benchmark_{name}.png")
