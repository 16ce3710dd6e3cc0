"""Runs of the benchmark, as its figures meet them."""

from typing import Any

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.evaluation.runs import CURVE_POINTS


def row(kind: str, method: str, lr0: float, seed: int, **values: Any) -> dict[str, Any]:
    """One training run, dull where `values` say nothing else."""
    said = {
        "split": "heldout", "family": "f", "task": "f-1", "workload": "w", "regime": "ordinary", "optimizer": "adam",
        "n_steps": 30, "probe_steps": 0, "steps_per_epoch": 5.0, "kind": kind, "method": method, "lr0": lr0,
        "seed": seed, "val_loss": 0.5, "val_error": 0.2, "test_loss": 0.5, "test_error": 0.2, "best_loss": 0.5,
        "best_error": 0.2, "milestones": [10, 20, 30], "val_curve": [0.9, 0.6, 0.5], "lr_curve": [1e-3] * CURVE_POINTS,
        "seconds": 0.1, "initial_loss": 1.0, "initial_error": 0.9,
    } | values  # fmt: skip
    optimizer = OPTIMIZERS[said["optimizer"]].title
    return {"label": f"{said['family']} {said['workload']} · {optimizer} · {said['n_steps']} steps"} | said
