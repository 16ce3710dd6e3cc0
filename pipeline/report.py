"""Draw the report of the evaluation: one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrpilot import load_policy
from pipeline import config, tracking
from pipeline.evaluation import aggregates
from pipeline.paths import Paths, parse_root
from pipeline.reporting import report_data, report_figures, result_keys, scores, verdict
from pipeline.reporting.scores import Score

TEMPLATE = Path(__file__).parent / "reporting" / "templates" / "report.html"
SHADES = {1: "0, 114, 178", -1: "213, 94, 0"}  # red, green, blue of cells better and worse than half the oracle's gain
SCALE = -0.05, 1.05  # regrets at the ends of the page's scales


def main() -> None:
    paths = parse_root(__doc__)
    with tracking.stage(paths, "report", {}) as log:
        page = render(paths)
        paths.report.parent.mkdir(parents=True, exist_ok=True)
        paths.report.write_text(page, encoding="utf-8")
        log.artifact(paths.report)


def render(paths: Paths) -> str:
    """The page. Raises ValueError if the evaluation lacks the policy."""
    from jinja2 import Environment, StrictUndefined

    figures = json.loads(paths.evaluate_metrics.read_text(encoding="utf-8"))
    rows = report_data.load(paths.evaluation)
    params = config.load(paths.root)
    rates = params.evaluate.learning_rates
    splits = sorted(rows.split.unique(), key=result_keys.SPLITS.index)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": verdict.number, "interval": lambda s: verdict.interval(s.low, s.high), "gap": verdict.gap,
        "percent": verdict.percent, "role": verdict.role, "count": lambda value: f"{value:,}",
        "plain": _plain, "shade": _shade, "place": _place,
    }  # fmt: skip
    policy = load_policy(paths.policy)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        splits=[_split(name, rows.loc[rows.split == name], figures) for name in splits],
        rates=", ".join(np.format_float_scientific(rate, trim="-", exp_digits=1) for rate in rates),
        calibrated={k.partition(".")[2]: v for k, v in figures.items() if k.startswith("calibrated.")},
        losses=_losses(pd.read_csv(paths.train_curve)),
        collected=_json(paths.collect_metrics),
        trained=_json(paths.train_metrics),
        exported=_json(paths.export_metrics),
        families=sorted(params.collect.families),
        schedules=sorted(params.collect.schedules),
        evaluation_hours=_hours(rows),
        evaluation_runs=len(rows),
        benchmark=figures[result_keys.BENCHMARK],
        manifest=policy.manifest,
        evaluate=asdict(params.evaluate),
        names=scores.NAMES,
        kinds=report_figures.KINDS,
    )


def _split(name: str, rows: pd.DataFrame, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The page's content for one split."""
    table, competing = scores.table(figures, name), aggregates.judged(rows)
    listed, controls = scores.listed(table), [s for s in table if s.kind == "control"]
    per_task = report_data.by_task(competing)
    shares = scores.shares(figures, name)
    said = {what: figures[result_keys.of_split(name, what)] for what in ("tasks", "configured", "seeds")}
    return said | {
        "name": name, "title": scores.SPLITS[name], "scores": listed, "all": [(score, score) for score in listed],
        "policy": scores.find(table, result_keys.POLICY),
        "regimes": shares, "parts": {regime: _regime(name, regime, rows, table) for regime in shares},
        "unjudged": scores.unjudged(figures, name),
        "validated": scores.find(table, scores.VALIDATED), "yardsticks": scores.yardsticks(table), "controls": controls,
        "verdict": verdict.judged(figures, name), "left_out": scores.left_out(figures, name),
        "columns": [c for c in per_task if c in report_data.TASK_COLUMNS],
        "families": sorted(rows.family.unique()), "outcomes": aggregates.outcomes(competing),
        "sensitivity": _sensitivity(name, rows),
    }  # fmt: skip


def _regime(name: str, regime: str, rows: pd.DataFrame, table: Sequence[Score]) -> dict[str, Any]:
    """What the page shows of a split's tasks of one regime: methods, the lowest mean first, tasks, learning rates."""
    of_regime = rows.loc[rows.regime == regime]
    ranked = sorted(scores.listed(table), key=lambda score: score.regimes[regime].mean)
    measures = [*scores.yardsticks(table), scores.best(ranked, "rival")]
    return {
        "scores": [(s, s.regimes[regime]) for s in ranked if s.kind in ("policy", "control") or s in measures],
        "by_task": report_data.by_task(aggregates.judged(of_regime)).to_dict("records"),
        "rates": [
            (curves, _panel(report_figures.draw_rates, f"rates-{name}-{regime}-{at}", curves))
            for at, curves in enumerate(report_data.task_curves(of_regime, report_data.SHOWN_OF_REGIME))
        ],
    }


def _sensitivity(split: str, rows: pd.DataFrame) -> dict[str, str]:
    """By optimizer a picture."""
    table = report_data.sensitivity(rows.query("kind == 'baseline'"), rows)
    limits = report_figures.regret_limits(table)
    return {
        optimizer: _panel(
            report_figures.draw_sensitivity, f"sensitivity-{split}-{optimizer}", schedules, policy, limits
        )
        for optimizer, (schedules, policy) in table.items()
    }


def _losses(curve: pd.DataFrame) -> dict[str, str]:
    """By loss of the agents a picture of it."""
    return {
        str(name).replace("_", " "): _panel(report_figures.draw_losses, f"loss-{name}", part)
        for name, part in curve.groupby("name", sort=True)
    }


def _panel(draw: Callable[..., None], name: str, *content: Any) -> str:
    return report_figures.svg(report_figures.panel(draw, *content), name)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _hours(rows: pd.DataFrame) -> float:
    """Core time of the evaluation's runs."""
    return float(rows.seconds.sum()) / 3600


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _place(regret: float) -> str:
    """CSS of where a regret lies on a scale, whose ends take what lies beyond them."""
    low, high = SCALE
    return f"{100 * (np.clip(regret, low, high) - low) / (high - low):.1f}%"


def _shade(regret: float) -> str:
    """CSS of a table cell: the further from 0.5, the stronger."""
    if np.isnan(regret):
        return ""
    distance = np.clip((0.5 - regret) / 0.5, -1.0, 1.0)
    return f"background: rgba({SHADES[1 if distance >= 0 else -1]}, {0.45 * abs(distance):.2f})"


if __name__ == "__main__":
    main()
