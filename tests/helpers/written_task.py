"""Recorded tasks that nobody recorded: one written by hand, others drawn at random."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lrpilot.decisions.actions import ActionEquation
from policy.trajectories import SCHEMA

ROWS = 7  # run a: rows 0-3 (budget), run b: rows 4-6 (diverged)
CURVES = ("probe_loss", "probe_grad")


def sound() -> dict[str, list[Any]]:
    """Two probed runs of one task, column by column."""
    rows: dict[str, list[Any]] = {name: [0.5] * ROWS for name in SCHEMA.names}
    rows |= {name: ["x"] * ROWS for name in ("family", "regime", "workload", "task", "schedule")}
    rows |= {
        "run_id": ["a"] * 4 + ["b"] * 3,
        "optimizer": ["adam"] * ROWS,
        "seed": [1] * 4 + [2] * 3,
        "n_steps": [90] * ROWS,
        "examples": [500] * ROWS,
        "batch_size": [25] * ROWS,
        "weights": [300] * ROWS,
        "batch_norm": [False] * ROWS,
        "dropout": [False] * ROWS,
        "clipped": [False] * ROWS,
        "group": [-1] * ROWS,
        "twin": [-1] * ROWS,
        "departs_at": [-1] * ROWS,
        "departs_by": [np.nan] * ROWS,
        "tells_size": [True] * ROWS,
        "shows_validation": [True] * ROWS,
        "probed": [True] * ROWS,
        "decision": [0, 1, 2, 3, 0, 1, 2],
        "step": [16, 40, 60, 90, 12, 40, 60],
        "action": [0.1, -1.0, 1.0, np.nan, 0.2, 0.3, np.nan],
        "val_loss": [1.0, 0.9, 0.8, 0.7, 1.0, 5.0, np.nan],
        "probe_loss": [[1.0, 2.0], None, None, None, [1.0, np.nan], None, None],
        "probe_grad": [[1.0, 1.0], None, None, None, [1.0, np.nan], None, None],
        "probe_used": [2, None, None, None, 1, None, None],
        "terminated": [False, False, False, True, False, False, True],
        "truncated": [False] * ROWS,
        "reason": ["running"] * 3 + ["budget"] + ["running"] * 2 + ["diverged"],
    }
    return rows


def table(**changes: Any) -> pa.Table:
    return pa.table(sound() | changes, schema=SCHEMA)


def drawn_table(
    seed: int,
    lengths: Sequence[int] = (4, 2, 5),
    *,
    optimizer: str = "adam",
    probed: bool = True,
    equation: ActionEquation = ActionEquation(),  # noqa: B008 (frozen)
) -> pa.Table:
    """Runs of `lengths` decisions of random telemetry, as a file of theirs holds it; the second run diverges.

    Random actions make the levels; the actions in the file are those that lead from level to level.
    """
    rng, longest, steps = np.random.default_rng(seed), max(lengths), 10
    rows: list[dict[str, Any]] = []
    for run, length in enumerate(lengths):
        anchor, diverged = rng.uniform(-1.5, 0.5), run == 1
        used = int(rng.integers(5, steps + 1))
        trail = {
            name: np.where(np.arange(steps) < used, rng.uniform(0.5, 2, steps), np.nan).tolist() for name in CURVES
        }
        level = np.array([anchor])
        for decision in range(length + 1):
            before, last = level, decision == length
            if not last:
                level = equation.apply(before, np.array([anchor]), rng.uniform(-1, 1, 1), decision == 0)
            action = equation.invert(before, np.array([anchor]), level, decision == 0)
            values = dict(zip(SCHEMA.names, rng.uniform(0.5, 2, len(SCHEMA.names)), strict=True))
            rows.append(
                values
                | dict.fromkeys(("family", "regime", "workload", "task", "schedule"), "drawn")
                | {
                    "run_id": f"{run:03}", "seed": run, "optimizer": optimizer, "n_steps": 100, "steps_per_epoch": 20.0,
                    "examples": 500, "batch_size": 25, "weights": 300, "batch_norm": True, "dropout": False,
                    "clipped": False, "group": -1, "twin": -1, "departs_at": -1, "departs_by": np.nan,
                    "tells_size": True, "shows_validation": True, "baseline_loss": 1.5,
                    "probed": probed, "decision": decision,
                    "step": (used if probed else 0) if decision == 0 else steps + 90 * decision // longest,
                    "level": level[0], "anchor": anchor, "action": np.nan if last else action[0],
                    "val_loss": np.nan if last and diverged else values["val_loss"], "val_error": 0.5,
                    **{name: values if probed and decision == 0 else None for name, values in trail.items()},
                    "probe_used": used if probed and decision == 0 else None,
                    "terminated": last, "truncated": False,
                    "reason": "running" if not last else "diverged" if diverged else "budget",
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def twins(final: Sequence[float], facts: Sequence[tuple[int, int, int, float]], levels: Sequence[float]) -> pa.Table:
    """Runs of two decisions that end with the losses `final` (nan: diverged), begin with 1.0, and have the anchor 0.

    Of each run its facts (group, twin, departs_at, departs_by), and its first level.
    """
    names, rows = ("group", "twin", "departs_at", "departs_by"), list[dict[str, Any]]()
    for run, (loss, fact, level) in enumerate(zip(final, facts, levels, strict=True)):
        for decision in range(3):
            last = decision == 2
            rows.append(
                dict.fromkeys(SCHEMA.names, 0.5)
                | dict.fromkeys(("family", "regime", "workload", "task", "schedule"), "x")
                | dict(zip(names, fact, strict=True))
                | {
                    "run_id": f"{run:03}", "seed": fact[0], "optimizer": "adam", "n_steps": 60, "steps_per_epoch": 20.0,
                    "examples": 500, "batch_size": 25, "weights": 300, "batch_norm": True, "dropout": False,
                    "clipped": False, "tells_size": True, "shows_validation": True, "baseline_loss": 2.0,
                    "probed": False, "decision": decision, "step": 30 * decision, "level": level, "anchor": 0.0,
                    "action": np.nan if last else 0.0, "val_loss": loss if last else 1.0,
                    **dict.fromkeys(CURVES), "probe_used": None, "terminated": last, "truncated": False,
                    "reason": "running" if not last else "budget" if np.isfinite(loss) else "diverged",
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)
