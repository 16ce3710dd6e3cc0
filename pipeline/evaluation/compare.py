"""The benchmark: schedules, rivals, controls and policies beside the oracle, all on the same tasks and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.evaluation import searched_schedule
from pipeline.evaluation.bench import Bench, schedules, train_grid, with_facts
from pipeline.evaluation.methods.ablated import ABLATIONS, Ablated
from pipeline.evaluation.methods.learned import Learned
from pipeline.evaluation.methods.method import Method
from pipeline.evaluation.methods.ruled import Ruled
from pipeline.evaluation.methods.scheduled import Replayed, Scheduled
from pipeline.evaluation.oracle import oracles
from pipeline.evaluation.regrets import add_regret
from pipeline.evaluation.rivals import CALIBRATED, NADAMW
from pipeline.workloads.base import TEXTBOOK


def compare(bench: Bench, methods: Sequence[Method], *, search: bool = False) -> pd.DataFrame:
    """All methods, schedules, the oracles of every score, the replay of the policy's mean curve; one row per run.

    With `search`, a near-optimal schedule of each task too. Rows carry what is known of their task, and regrets.
    """
    known, tuned = bench.facts(), train_grid(bench)
    asked = [*schedules("baseline", bench.learning_rates), *methods]
    best, first = oracles(bench, tuned)
    default = calibrated()
    for task in bench.tasks:
        optimizer = known.optimizer[task.name]
        untuned = [default[optimizer], *schedules("textbook", [TEXTBOOK[optimizer]])]
        first += bench.runs([*asked, *untuned], task)
    rows = bench.compute(first, "compare")
    curves = mean_curves(
        rows[(rows.kind == "policy") & (rows.method == "policy")].join(known[["optimizer", "n_steps"]], "task")
    )
    second = [r for t in bench.tasks for r in bench.runs([curves[known.optimizer[t.name]]], t)]
    if search:
        searched = searched_schedule.search(bench, best)
        second += [run for task in bench.tasks for run in bench.runs([searched[task.name]], task)]
    rows = pd.concat([rows, bench.compute(second, "replay"), tuned], ignore_index=True)
    return add_regret(with_facts(rows, bench))


def contenders(policy: Path, blind: Path) -> list[Method]:
    """The policy as it comes and shown the validation loss, its controls, and the LR finders, which need no rate.

    As it comes, in a loop over a DataLoader, it knows the training loss and the size of the data.

    Raises FileNotFoundError where there is no policy.
    """
    learned = existing(policy)
    return [
        Learned("policy", "policy", learned, epochs=True),
        Learned("policy", "policy_val", learned, epochs=True, validation=True),
        *(Ablated("control", name, learned, name) for name in ABLATIONS),
        Ruled("control", "random_init", rule="random_init"),
        Learned("control", "state_blind", existing(blind)),
        Ruled("rival", "finder_steepest", rule="finder_steepest"),
        Ruled("rival", "finder_tenth", rule="finder_tenth"),
    ]


def existing(path: Path) -> str:
    """`path` as a string, for a method; FileNotFoundError where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such policy; run the export stage first")
    return str(path)


def calibrated() -> dict[str, Scheduled]:
    """By optimizer the schedule and rate that is best on average over tasks of the training families, frozen."""
    chosen = json.loads(CALIBRATED.read_text(encoding="utf-8"))
    return {
        optimizer: Scheduled("rival", "calibrated", **entry)
        for optimizer, entry in chosen.items()
        if optimizer != NADAMW
    }


def mean_curves(rows: pd.DataFrame) -> dict[str, Replayed]:
    """By optimizer the replay of the policy's learning rate, the geometric mean over its runs.

    A probe is rolled back, so its rates are none of the training's: the first rate after it stands in their place.
    """
    curves: dict[str, list[np.ndarray]] = {}
    for optimizer, probed, curve in zip(rows.optimizer, rows.probe_steps / rows.n_steps, rows.lr_curve, strict=True):
        log_lr = np.log10(np.maximum(np.asarray(curve), 1e-12))
        after = int(np.ceil(probed * (len(log_lr) - 1)))
        log_lr[:after] = log_lr[after]
        curves.setdefault(str(optimizer), []).append(log_lr)
    return {
        optimizer: Replayed("control", "mean_lr", curve=tuple(np.mean(of_runs, axis=0).tolist()))
        for optimizer, of_runs in curves.items()
    }
