"""The plan's figures from its runs: five metrics per cell, and a comparison of the pilot.

A training that diverged, or ended above its initial loss, counts as its initial loss. Otherwise one blow-up would
decide a mean and every comparison with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from experiments.original.plan.catalogue import PILOTS, TRADITIONAL

PAIR = ["dataset", "model", "batch_size", "epochs"]
PLAN_RATE = 1e-3  # the plan's own initial rate, at which schedulers are compared in every pair
FIGURES = (  # of a cell
    "eval_loss", "eval_accuracy", "test_accuracy", "train_runtime", "epochs_to_threshold", "eval_runtime",
    "eval_samples_per_second", "eval_steps_per_second", "epoch",
)  # fmt: skip
CONFIDENCE = 0.95


def rows(results: Sequence[Mapping[str, Any]], thresholds: Mapping[str, float]) -> pd.DataFrame:
    """A row per training. `eval_loss` is the value that counts, `raw_eval_loss` the original one."""
    out = []
    for result in results:
        curve = result["curve"]
        start, end = curve[0]["val_loss"], result["eval_loss"]
        per_epoch = result["steps"] / result["epochs"]
        reached = [row["step"] / per_epoch for row in curve if 1 - row["val_error"] >= thresholds[result["dataset"]]]
        out.append(
            {k: v for k, v in result.items() if k != "curve"}
            | {
                "raw_eval_loss": end, "eval_loss": min(end, start) if math.isfinite(end) else start,
                "initial_loss": start, "epochs_to_threshold": reached[0] if reached else math.nan,
                "lr_curve": [row["lr"] for row in curve], "val_curve": [row["val_loss"] for row in curve],
            }
        )  # fmt: skip
    return pd.DataFrame(out)


def half(values: Iterable[float]) -> float:
    """Half the width of Student's 95 % interval of a mean over seeds; nan for fewer than two."""
    finite = np.array([v for v in values if math.isfinite(v)])
    if len(finite) < 2:
        return math.nan
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(finite) - 1) * finite.std(ddof=1) / math.sqrt(len(finite)))


def pair_name(pair: Sequence[Any]) -> str:
    """mnist.resnet18.64x50: data set, model, batch size, epochs."""
    return f"{pair[0]}.{pair[1]}.{pair[2]}x{pair[3]}"


def cell(runs: pd.DataFrame) -> dict[str, float]:
    """Mean over seeds, `.half` of every figure, and how many diverged or reached the threshold."""
    out: dict[str, float] = {"runs": len(runs), "diverged": int(runs.diverged.sum())}
    out["reached"] = int(runs.epochs_to_threshold.notna().sum())
    for figure in FIGURES:
        values = pd.Series(runs[figure], dtype=float)
        out[figure], out[f"{figure}.half"] = float(values.mean()), half(values)
    return out


def by_rate(runs: pd.DataFrame, scheduler: str) -> dict[str, float]:
    """For a pair and scheduler: mean eval_loss by initial rate, over all rates, and the spread, which is the
    sensitivity.
    """
    own = runs.loc[runs.scheduler == scheduler]
    means = own.groupby("learning_rate").eval_loss.mean()
    over_rates = own.groupby("seed").eval_loss.mean()  # seeds share initialisations, so they are the units
    spread = 0.0 if scheduler in PILOTS else float(means.max() - means.min())
    return {f"{rate:g}": float(v) for rate, v in means.items()} | {
        "mean": float(over_rates.mean()), "half": half(over_rates), "sensitivity": spread,
    }  # fmt: skip


def verdict(runs: pd.DataFrame) -> dict[str, Any]:
    """For a pair: the pilot's loss, the best traditional scheduler's at the plan's rate, the lowest mean over rates."""
    pilot = runs.loc[runs.scheduler == "pilot"].eval_loss.mean()
    traditional = runs.loc[runs.scheduler.isin(TRADITIONAL)]
    at_plan = traditional.loc[traditional.learning_rate == PLAN_RATE].groupby("scheduler").eval_loss.mean()
    over_rates = traditional.groupby("scheduler").eval_loss.mean()
    if not len(at_plan) or math.isnan(pilot):  # a profile without them
        return {}
    return {
        "pilot": float(pilot), "best": str(at_plan.idxmin()), "best_loss": float(at_plan.min()),
        "lowest_mean": str(over_rates.idxmin()), "lowest_mean_loss": float(over_rates.min()),
        "at_or_below_best": bool(pilot <= at_plan.min()), "below_means": bool(pilot < over_rates.min()),
    }  # fmt: skip


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """For each pair: `cells` at the setting's own rate by scheduler, `rates` by scheduler, `verdict`."""
    out: dict[str, Any] = {}
    for pair, runs in table.groupby(PAIR, sort=False):
        own = runs.loc[runs.learning_rate == runs.own_rate]
        schedulers = list(dict.fromkeys(runs.scheduler))
        out[pair_name(cast(tuple[Any, ...], pair))] = {
            "rate": float(runs.own_rate.iloc[0]), "seeds": int(runs.seed.nunique()),
            "initial_loss": float(runs.initial_loss.mean()),
            "cells": {name: cell(own.loc[own.scheduler == name]) for name in schedulers},
            "rates": {name: by_rate(runs, name) for name in schedulers},
            "verdict": verdict(runs),
        }  # fmt: skip
    return out


def flat(summary: Mapping[str, Any]) -> dict[str, float]:
    """Metrics for DVC and MLflow."""
    out: dict[str, float] = {}
    for pair, of_pair in summary.items():
        for scheduler, figures in of_pair["cells"].items():
            out |= {f"{pair}.{scheduler}.{k}": round(v, 5) for k, v in figures.items() if math.isfinite(v)}
            rates = of_pair["rates"][scheduler]
            out[f"{pair}.{scheduler}.sensitivity"] = round(rates["sensitivity"], 5)
            out[f"{pair}.{scheduler}.mean_over_rates"] = round(rates["mean"], 5)
    judged = [of_pair["verdict"] for of_pair in summary.values() if of_pair["verdict"]]
    out["pairs"] = len(summary)
    out["pilot_at_or_below_best"] = sum(v["at_or_below_best"] for v in judged)
    out["pilot_below_means"] = sum(v["below_means"] for v in judged)
    return out
