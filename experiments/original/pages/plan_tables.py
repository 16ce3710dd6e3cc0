"""The plan's tables as Markdown, from `summary.summarise`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from experiments.original.pages.summary import PLAN_RATE
from experiments.original.plan.catalogue import MODEL_TITLES, PILOTS, SCHEDULER_TITLES, SETS
from pipeline.reporting.markdown import table

# What the plan published of fine-tuning BERT: the run with 5e-5, and one that failed to learn.
PUBLISHED = (("published, from 5e-05", 0.4323, 0.856), ("published, failed to learn", 0.699, 0.487))
COLUMNS = {  # figure -> decimals; in the names of Hugging Face's Trainer
    "eval_loss": 4, "eval_accuracy": 3, "test_accuracy": 3, "epochs_to_threshold": 1, "train_runtime": 1,
    "eval_runtime": 2, "eval_samples_per_second": 0, "eval_steps_per_second": 1, "epoch": 0,
}  # fmt: skip
WITH_INTERVAL = ("eval_loss", "eval_accuracy", "test_accuracy", "train_runtime")


def title(pair: str) -> str:
    """For example: MNIST × ResNet-18, batch 64, 50 epochs."""
    name, model, size = pair.split(".")
    batch, epochs = size.split("x")
    return f"{SETS[name].title} × {MODEL_TITLES[model]}, batch {batch}, {epochs} epoch{'s' * (epochs != '1')}"


def number(value: float, decimals: int, half: float = math.nan) -> str:
    """A figure, with half its interval if known; a dash if there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.{decimals}f}" + (f" ± {half:,.{decimals}f}" if math.isfinite(half) else "")


def cells(pair: str, summary: Mapping[str, Any]) -> str:
    """All schedulers of a pair, from the setting's own rate."""
    rows = []
    for scheduler, figures in summary["cells"].items():
        if not figures["runs"]:
            continue
        start = "" if scheduler in PILOTS else f" from {summary['rate']:g}"
        some = [
            number(figures[name], decimals, figures[f"{name}.half"] if name in WITH_INTERVAL else math.nan)
            for name, decimals in COLUMNS.items()
        ]
        some[3] += f" ({figures['reached']} of {figures['runs']})"
        rows.append([SCHEDULER_TITLES[scheduler] + start, *some])
    if ".bert." in pair:
        rows += [[name, f"{loss}", f"{accuracy}", *["–"] * (len(COLUMNS) - 2)] for name, loss, accuracy in PUBLISHED]
    return table(["scheduler", *COLUMNS], rows)


def rates(summary: Mapping[str, Any]) -> str:
    """All schedulers of a pair by initial rate: mean eval_loss."""
    known = sorted({r for s, f in summary["rates"].items() if s not in PILOTS for r in f if r[0].isdigit()}, key=float)
    rows = []
    for scheduler, figures in summary["rates"].items():
        given = ["any" if scheduler in PILOTS else number(figures.get(rate, math.nan), 4) for rate in known]
        rows.append([
            SCHEDULER_TITLES[scheduler], *given, number(figures["mean"], 4, figures["half"]),
            number(figures["sensitivity"], 4),
        ])  # fmt: skip
    return table(["scheduler", *known, "mean over rates", "sensitivity"], rows)


def verdicts(summary: Mapping[str, Any]) -> str:
    """How the pilot compares, pair by pair."""
    rows, judged = [], []
    for pair, of_pair in summary.items():
        v = of_pair["verdict"]
        if not v:
            continue
        judged.append(v)
        pilot = number(v["pilot"], 4, of_pair["rates"]["pilot"]["half"])
        best, mean = (f"{number(v[f'{k}_loss'], 4)} ({SCHEDULER_TITLES[v[k]]})" for k in ("best", "lowest_mean"))
        answers = ("yes" if v[k] else "no" for k in ("at_or_below_best", "below_means"))
        rows.append([title(pair), pilot, best, mean, *answers])
    header = [
        "pair", "PilotLR", f"best traditional from {PLAN_RATE:g}", "lowest mean over rates", "at or below the best",
        "below every mean",
    ]  # fmt: skip
    best, means = (sum(v[k] for v in judged) for k in ("at_or_below_best", "below_means"))
    summed_up = (
        f"PilotLR ends at or below the best traditional scheduler from the plan's {PLAN_RATE:g} in {best} of "
        f"{len(judged)} pairs, and below every traditional scheduler's mean over initial rates in {means}."
    )
    return f"{summed_up}\n\n{table(header, rows)}"


def document(summary: Mapping[str, Any], level: str = "##") -> str:
    """The whole document. Means over seeds, ± half of Student's 95 % interval."""
    seeds = max(of_pair["seeds"] for of_pair in summary.values())
    parts = [
        f"Means over {seeds} seeds, ± half of Student's 95 % interval. `eval_` is of the held-out share, `test_` of "
        "the test split; a training that diverged or ended above where it began counts with the loss that it began "
        "with. "
        "`epochs_to_threshold`: of those that reached it, and how many did.",
        verdicts(summary),
    ]
    for pair, of_pair in summary.items():
        parts += [f"{level} {title(pair)}", cells(pair, of_pair), "`eval_loss` by initial rate:", rates(of_pair)]
    return "\n\n".join(parts)
