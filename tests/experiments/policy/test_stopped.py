"""What stops say of recorded cuts, by hand, and what critics learn from them on a few recorded tasks."""

from pathlib import Path

import numpy as np

from experiments.policy.stopped import cuts, measure, render
from policy import mdp, trajectories
from policy.observations import TaskRecording
from tiny import with_few_steps, write_params
from written_task import twins

REWARD = mdp.Reward(loss_weight=0.0, regret_weight=1.0, knee=1.0, floor=-0.5)
# Two groups with a base, a rise and a cut; one group of levels.
FACTS = [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, 1, -0.75), (1, 0, -1, 0.0), (1, 1, 1, 1.0), (1, 2, 1, -1.2),
         (2, 0, -1, 0.0), (2, 1, 0, -1.0)]  # fmt: skip
LEVELS = [0.1] * 7 + [-0.9]


def test_cuts_by_hand() -> None:
    """All runs have regret 1 at decision 1, where they stop or cut."""
    final = [0.7, 0.5, 0.85, 0.4, 0.5, np.nan, 0.6, 0.6]
    phi = dict(zip(final, -np.log10((np.array(final) - 0.4) / 0.6 + 1), strict=True))
    rows = cuts(TaskRecording(twins(final, FACTS, LEVELS)), REWARD)
    stop = -np.log10(2)
    wanted = [[stop - phi[0.7], phi[0.85] - phi[0.7], 0.75], [stop - phi[0.4], -0.5 - phi[0.4], 1.2]]
    np.testing.assert_allclose(rows, wanted)


def test_figures_of_a_collection(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        table = twins(rng.uniform(0.2, 1.9, len(FACTS)).tolist(), FACTS, LEVELS)
        trajectories.store(trajectories.encode(table), tmp_path / "data/drawn" / f"{i}.parquet")
    figures = measure(trajectories.files(tmp_path / "data"), with_few_steps(write_params(tmp_path)))
    assert figures["tasks"] == 10 and sum(figures[f"{i}.large_count"] for i in range(5)) == 10
    assert {f"{stops}.{name}" for stops in (0, 4) for name in ("first", "later", "stopped", "moved")} <= set(figures)
    page = render(figures | {"data": "d" * 64})
    assert page.count("\n| below -0.2 | ") == 1 and page.count("\n| 4 | ") == 1 and "dddddddddddd" in page
