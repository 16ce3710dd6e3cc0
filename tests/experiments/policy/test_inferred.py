"""What stops say of recorded cuts, by hand, and what critics learn on a few recorded tasks."""

from pathlib import Path

import numpy as np
import pytest

from experiments.policy.inferred import KINDS, cuts, measure, render, shares
from policy import trajectories
from policy.observations import TaskRecording
from policy.settings import Caution, Reward
from tiny import with_few_steps, write_params
from written_task import twins

REWARD = Reward(loss_weight=0.0, regret_weight=1.0, knee=1.0, floor=-0.5)
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
    assert {f"{kind}.{name}" for kind in KINDS for name in ("first", "early", "later", "later_moved")} <= set(figures)
    page = render(figures | {"data": "d" * 64})
    assert page.count("\n| below -0.2 | ") == 1 and page.count("\n| and both | ") == 1 and "dddddddddddd" in page


def test_shares_by_hand() -> None:
    returns = np.array([1.0, 0.4, -0.4, 0.2, -0.2])
    first, early = np.array([True] + [False] * 4), np.array([True, True, True, False, False])
    worth = np.stack([[0.5, 0.4, -0.4, 0.1, -0.1], [0.5, 0.4, -0.4, 0.3, 0.1]])
    figures = shares(worth, first, early, returns, Caution(first=0.0, later=1.0, margin=0.05))
    assert figures == pytest.approx({
        "first": 0.75, "first_moved": 1.0, "first_gained": 1.0, "early": 1.0, "early_moved": 0.5, "early_gained": 0.4,
        "later": 1 - 0.04 / 0.08, "later_moved": 0.5, "later_gained": 0.2,
    })  # fmt: skip
