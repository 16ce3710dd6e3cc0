"""Recorded probes: curves by level of the climb, whatever steps the checks of a suspicion take."""

from dataclasses import dataclass

import numpy as np
import torch

from lrpilot.decisions.actions import reference
from lrpilot.decisions.protocol import Protocol
from lrpilot.probing.probe_curve import LOW, levels
from pipeline.simulation.simulate import hold_level, simulate
from pipeline.workloads.base import Data, Workload

STEPS, ODD, CHECKS = 300, 7, 2  # the probe takes 16 steps


@dataclass(frozen=True)
class OnePass(Workload):
    """Whose examples come in their order, with those of the eighth step later by as many steps as the seed says."""

    def batches(self, seed: int) -> np.ndarray:
        order = np.arange(STEPS * 8).reshape(STEPS, 8)
        order[[ODD, ODD + seed]] = order[[ODD + seed, ODD]]
        return order


def with_an_odd_batch() -> Workload:
    """A regression in which the targets of one batch are a hundred times too large."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((STEPS * 8 + 64, 4))
    y = x @ rng.standard_normal((4, 1)) + 0.1 * rng.standard_normal((len(x), 1))
    y[ODD * 8 : ODD * 8 + 8] *= 100
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    splits = (Data(x[i], y[i]) for i in (slice(0, STEPS * 8), slice(STEPS * 8, None), slice(STEPS * 8, None)))
    return OnePass(
        "odd", "odd", *splits,
        build=lambda: torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        ).double(),
        loss=torch.nn.functional.mse_loss, error=None, baseline_loss=1.0, optimizer="adam", batch_size=8,
        n_steps=STEPS,
    )  # fmt: skip


def test_curves_are_by_level_of_the_climb() -> None:
    """The first run meets the odd batch at the eighth level, the second after its probe."""
    workload, hold = with_an_odd_batch(), hold_level(lambda pilot: pilot.anchor)
    record = simulate(workload, [0, 100], Protocol(), hold, val_examples=32)
    assert record.probe is not None and record.lr_curve is not None
    loss, grad, used = record.probe
    z = levels(16)
    rates = np.log10(record.lr_curve[:16]) - reference("adam")
    halted = [LOW] * CHECKS
    np.testing.assert_allclose(rates[: used[1], 1], z[: used[1]])
    np.testing.assert_allclose(rates[:14, 0], [*z[: ODD + 1], *halted, *z[ODD + 1 : 14 - CHECKS]])
    for run, gaps in ((0, [ODD]), (1, [])):
        for curve in (loss, grad):
            missing = np.flatnonzero(np.isnan(curve[run]))
            assert missing.tolist() == [*gaps, *range(used[run], 16)]
