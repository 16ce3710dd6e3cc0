"""How often the guards fire on trainings that end well and on others, and what they cost and save.

    python -m benchmarks.guards.thresholds    # 20 minutes; needs data/trajectories (collect stage)

It writes two sections of benchmarks/results/guards.json and their tables in docs/guards.md. `recorded` is the guard on
the recorded trainings of the training families, for several values of its thresholds. `driven` is the shipped policy,
also with an error in its first level, on new tasks of the training and selection families, with and without guards.
Held-out families are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from benchmarks.guards.injected import write
from lrpilot import guard, load_policy, probe
from lrpilot.actions import ActionEquation
from lrpilot.bundle import Bundle
from lrpilot.features import NAMES
from lrpilot.pilot import Pilot
from pipeline.evaluation.splits import draw
from pipeline.simulation.simulate import simulate
from pipeline.workloads.families import names
from policy import trajectories

COLUMNS = (
    "run_id", "task", "decision", "train_loss", "loss_last", "loss_noise", "grad_norm", "val_loss", "probe_loss",
    "reason",
)  # fmt: skip
SETTINGS = (  # (SPIKE, DRIFT, SHARE): the guard's own, and one changed at a time
    (guard.SPIKE, guard.DRIFT, guard.SHARE), (2.0, guard.DRIFT, guard.SHARE), (6.0, guard.DRIFT, guard.SHARE),
    (guard.SPIKE, 0.25, guard.SHARE), (guard.SPIKE, 1.0, guard.SHARE),
    (guard.SPIKE, guard.DRIFT, 0.02), (guard.SPIKE, guard.DRIFT, 0.3),
)  # fmt: skip
GIVEN_BACK = 0.2  # share of the gain that a training which "rose" has given back at its end
LATE = 6  # decisions; who diverges earlier has no memory to compare with
ERRORS = (0.0, 1.0)  # decades added to the first level
SEEDS, TASK_SEED = 5, 11
FIRST = NAMES.index("first")


def _before(curve: Any) -> float:
    """Loss before training according to a probe; nan without one."""
    if curve is None:
        return float("nan")
    flat = max(2, int(np.sum(probe.levels(len(curve)) <= probe.LOW + probe.FLAT)))
    return float(np.mean(curve[:flat]))


class Recorded:
    """All recorded runs side by side: fields (decisions, runs), nan past a run's end."""

    def __init__(self, folder: Path) -> None:
        parts = [pq.read_table(f, columns=list(COLUMNS)).to_pandas() for f in trajectories.files(folder)]
        rows = pd.concat(parts, ignore_index=True)
        run = rows.groupby("run_id", sort=False).ngroup().to_numpy()
        self.rows = np.bincount(run)  # of each run
        self.fields = {}
        for name in ("train_loss", "loss_last", "loss_noise", "grad_norm"):
            self.fields[name] = np.full((self.rows.max(), len(self.rows)), np.nan)
            self.fields[name][rows.decision, run] = rows[name]
        ends, starts = rows[rows.reason != "running"], rows[rows.decision == 0]
        loss0 = np.array([_before(curve) for curve in starts.probe_loss])
        self.loss0 = np.where(np.isnan(loss0), self.fields["train_loss"][1], loss0)
        self.diverged = (ends.reason == "diverged").to_numpy()
        final = ends.val_loss.where(~self.diverged & np.isfinite(ends.val_loss), np.inf)
        self.well = (final.groupby(ends.task).rank(pct=True, method="first") <= 0.5).to_numpy()
        loss = self.fields["train_loss"]
        best = np.nanmin(np.where(np.isfinite(loss), loss, np.nan)[1:], axis=0, initial=np.inf)
        last = loss[self.rows - 1, np.arange(len(self.rows))]
        with np.errstate(all="ignore"):
            self.rose = ~self.well & ~self.diverged & ((last - best) / (self.loss0 - best) > GIVEN_BACK)

    def events(self) -> np.ndarray:
        """(decisions, runs) names of the events at which the loss raised an alarm; the rates stay as recorded."""
        runs, zero = len(self.rows), np.zeros(len(self.rows))
        watch, alarms = guard.Guard(runs, ActionEquation()), np.full((self.rows.max(), runs), "", object)
        for d in range(1, self.rows.max()):
            past = d >= self.rows
            interval = {k.replace("train_loss", "loss_mean"): v[d] for k, v in self.fields.items()}
            interval["grad_norm"] = np.where(past, 0.0, interval["grad_norm"])
            _, events = watch.check(
                zero, level=zero, anchor=zero, interval=interval, loss0=self.loss0, missing=past
            )  # fmt: skip
            alarms[d] = [event or "" for event in events]
        alarms[np.isin(alarms, ("recovery", "loss_missing"))] = ""
        return alarms

    def judge(self) -> dict[str, float]:
        """Percentages for the thresholds in force."""
        alarms = self.events()
        decisions = (self.rows - 1).astype(float)
        early = alarms.copy()  # before the decision at which a divergence was noticed
        early[self.rows - 1, np.arange(len(self.rows))] = ""
        late = self.diverged & (self.rows > LATE)
        out = {}
        for name in ("spike", "drift", "loss_runaway"):
            out[f"{name}_per_decision"] = 100 * (alarms[:, self.well] == name).sum() / decisions[self.well].sum()
        of = {"well": (alarms, self.well), "rose": (alarms, self.rose), "late": (early, late)}
        for name, (events, runs) in of.items():
            out[f"{name}_alarmed"] = 100 * (events[:, runs] != "").any(axis=0).mean()
            out[f"{name}_runs"] = int(runs.sum())
        return {k: round(float(v), 3) for k, v in out.items()}


def recorded() -> list[dict[str, float]]:
    """One row per setting of the thresholds, the guard's own first."""
    runs, out = Recorded(Path("data/trajectories")), []
    for spike, drift, share in SETTINGS:
        with patch.multiple(guard, SPIKE=spike, DRIFT=drift, SHARE=share):
            out.append({"spike": spike, "drift": drift, "share": share} | runs.judge())
    return out


def driven(errors: Sequence[float] = ERRORS) -> list[dict[str, Any]]:
    """One row per error of the policy: test losses with over without guards, in decades."""
    policy, out = load_policy("default"), []
    work = [t.sample() for name in (*names("train"), *names("selection")) for t in draw(name, 1, TASK_SEED)]
    for error in errors:
        ratios, events = [], Counter()
        for workload in work:
            ends = []
            for guards in (True, False):
                act = _driver(policy, error, guards, events)
                record = simulate(
                    workload, range(SEEDS), policy.protocol, act, val_examples=64, test=True, show_validation=False
                )
                assert record.test_loss is not None
                ends.append(np.fmin(record.test_loss, 10 * workload.baseline_loss))  # also where there is none
            ratios.append(np.log10(np.maximum(ends[1], 1e-9) / np.maximum(ends[0], 1e-9)))
        gained = np.concatenate(ratios)
        spread = np.std([r.mean() for r in ratios], ddof=1) / len(ratios) ** 0.5
        out.append({
            "error": error, "tasks": len(ratios), "runs": len(gained), "gained": round(float(gained.mean()), 4),
            "gained_se": round(float(spread), 4), "equal": int((gained == 0).sum()), "better": int((gained > 0).sum()),
            "worse": int((gained < 0).sum()), "events": dict(sorted(events.items())),
        })  # fmt: skip
    return out


def _driver(policy: Bundle, error: float, guards: bool, events: Counter[str]) -> Any:
    span = policy.protocol.action.span

    def answer(observation: np.ndarray) -> np.ndarray:
        wrong = error / span * observation[:, FIRST]  # later actions move the level from where that put it
        return np.clip(policy(observation) + wrong, -1.0, 1.0)

    def act(pilot: Pilot, which: np.ndarray) -> None:
        pilot.guarded = guards
        before = len(pilot.history)
        pilot.decide(answer, which)
        events.update(d.event for d in list(pilot.history)[before:] if d.event is not None)

    return act


def main() -> None:
    torch.set_num_threads(1)
    write({"recorded": recorded(), "driven": driven()})


if __name__ == "__main__":
    main()
